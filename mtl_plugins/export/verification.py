"""Whether an exported file computes what the model does."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mtl_plugins.datasets.photo_files import find_bundled_photos, load_photo
from mtl_plugins.errors import UserImportError
from mtl_plugins.inference.sizes import Size
from mtl_plugins.models import MultiTaskSegmentor

from .program import INPUT

TOLERANCE = 1e-4
PHOTOS = ('astronaut.png', 'chelsea.png', 'coffee.png')


def test_images(size: Size) -> list[Tensor]:
    """Batches ``(N, 3, H, W)`` of one and of three photographs and of noise, RGB 0..255 float32."""
    photos = {photo.name: photo.path for photo in find_bundled_photos()}
    arrays = [np.asarray(Image.fromarray(load_photo(photos[name])).resize(size[::-1])) for name in PHOTOS]
    batch = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().contiguous()
    noise = 255 * torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    return [batch[:1], batch, noise]


test_images.__test__ = False  # not a test, whatever pytest thinks of its name


def can_run(format: str) -> bool:
    """Whether what runs a format is installed."""
    return format == 'pt2' or find_spec('onnxruntime') is not None


def compare_with_file(
    model: MultiTaskSegmentor, path: Path, format: str, size: Size, decoded: bool = True
) -> dict[str, float]:
    """Run the file on several images and compare with the model itself.

    Returns:
        Task -> largest difference, see :func:`differences`, as a multiple of the largest raw output where that is above
        1.

    Raises:
        ImportError: If onnxruntime is needed and missing.
    """
    run = _onnx_runner(path) if format == 'onnx' else _pt2_runner(path)
    device = next(model.parameters()).device
    worst: dict[str, float] = {}
    for images in test_images(size):
        got = run(images)
        # The way of a picture in inference, which starts with uint8 in BGR; noise has fractions, which it would lose.
        batch = dict(inputs=list(images.flip(1).to(device)))
        with torch.no_grad():
            raw = model(model.data_preprocessor(batch)['inputs'], mode='tensor')
        for task, value in differences(model, raw, got, decoded):
            worst[task] = float(np.maximum(worst.get(task, 0.0), value))  # NaN, too, which max() would drop
    return worst


def differences(
    model: MultiTaskSegmentor, raw: Mapping[str, Tensor], got: Mapping[str, Tensor], decoded: bool
) -> Iterator[tuple[str, float]]:
    """How far outputs are from those of the model.

    For class indices: by how much the raw output of the chosen class falls short of the best one's, since rounding
    decides between classes that are equally likely.

    Args:
        model: The model.
        raw: Its raw outputs ``(N, C, H, W)``.
        got: Outputs of the exported file, by task.
        decoded: Whether those are predictions or raw.

    Yields:
        Task and largest difference, divided by the largest raw output where that is above 1.
    """
    for task, value in got.items():
        reference, head = raw[task].cpu(), model.heads[task]
        scale = max(1.0, reference.abs().max().item())
        if decoded and head.spec.kind == 'classes':
            difference = reference.amax(dim=1, keepdim=True) - reference.gather(1, value.long())
        else:
            difference = value - (head.decode(reference) if decoded else reference)
        yield task, difference.abs().max().item() / scale


def _onnx_runner(path: Path):
    if not can_run('onnx'):
        raise UserImportError('checking an ONNX file needs onnxruntime: pip install "mtl-plugins[export]"')
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]

    def run(images: Tensor) -> dict[str, Tensor]:
        return dict(zip(names, map(torch.from_numpy, session.run(names, {INPUT: images.numpy()}))))

    return run


def _pt2_runner(path: Path):
    module = torch.export.load(path).module()

    def run(images: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return module(images)

    return run
