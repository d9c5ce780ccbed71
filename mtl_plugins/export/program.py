"""The graph that is exported, and its two file formats."""

import copy
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mtl_plugins.errors import UserError, UserImportError
from mtl_plugins.inference.loading import size_divisor
from mtl_plugins.inference.sizes import Size, round_up
from mtl_plugins.models import MultiTaskSegmentor
from mtl_plugins.models.segmentors.inference import check_tasks

from . import FORMATS

INPUT = 'image'
_ONNX_PACKAGES = ('onnx', 'onnxscript')
_LARGEST_FILE = 1_800_000_000
"""Bytes of weights beyond which they go into a file beside the ONNX file, which can hold 2 GiB."""


class ExportedTasks(nn.Module):
    """From RGB pixels 0..255 to the predictions of the tasks.

    The normalization of the data preprocessor is part of it, so that who runs it needs no numbers from the config.

    Args:
        model: The trained model; not changed.
        size: Height and width of the images.
        tasks: The tasks, in order; None for those that the model predicts.
        decoded: Whether to return predictions (class indices, probabilities, metres, unit vectors) or raw outputs.

    Raises:
        KeyError: If the model has no head for a task.
        ValueError: If ``size`` is no multiple of the patch size.
    """

    def __init__(
        self, model: MultiTaskSegmentor, size: Size, tasks: Sequence[str] | None = None, decoded: bool = True
    ) -> None:
        super().__init__()
        divisor = size_divisor(model)
        if round_up(size, divisor) != tuple(size):
            raise UserError(
                f'height and width must be multiples of {divisor}, but got {tuple(size)}; the next are '
                f'{round_up(size, divisor)}'
            )
        settings = model.inference
        if settings.mode != 'whole' or settings.flip_tta:
            print_log(
                f'tests predict with mode={settings.mode!r} and flip_tta={settings.flip_tta} (test_cfg): windows and '
                'mirrored pictures are no part of the exported graph, and must be made by the program that runs it',
                logger='current',
                level=30,
            )
        self.tasks = tuple(tasks or settings.tasks or model.tasks)
        check_tasks(type(settings)(tasks=self.tasks), model.tasks)
        self.size = tuple(size)
        self.decoded = decoded
        self.model = copy.deepcopy(model).eval()
        for task in set(self.model.heads) - set(self.tasks):
            del self.model.heads[task]
        if hasattr(self.model.backbone, 'fix_size'):
            self.model.backbone.fix_size(size)
        preprocessor = model.data_preprocessor
        self.register_buffer('mean', preprocessor.mean.clone())
        self.register_buffer('std', preprocessor.std.clone())
        self.swap = not preprocessor.bgr_to_rgb

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Predict.

        Args:
            image: ``(N, 3, H, W)`` float32, RGB, 0..255.

        Returns:
            Task -> ``(N, C, H, W)``, decoded as by :func:`~mtl_plugins.models.heads.decoding.decode_logits`, or raw.
        """
        # A model without `bgr_to_rgb` was trained on BGR, and its mean and std are in that order.
        image = image.flip(1) if self.swap else image
        raw = self.model((image - self.mean) / self.std, mode='tensor')
        return {task: self.model.heads[task].decode(raw[task]) if self.decoded else raw[task] for task in self.tasks}


def export_program(module: ExportedTasks) -> torch.export.ExportedProgram:
    """Trace the graph; the number of images stays free."""
    example = torch.zeros(2, 3, *module.size)  # with a batch of 1 torch.export would take the 1 for a constant
    with torch.no_grad():
        return torch.export.export(module, (example,), dynamic_shapes={INPUT: {0: torch.export.Dim('batch')}})


def save_program(program: torch.export.ExportedProgram, tasks: Sequence[str], path: Path, format: str) -> None:
    """Write the graph.

    Args:
        program: Of :func:`export_program`.
        tasks: Names of the outputs, in order.
        path: The file.
        format: ``'onnx'`` or ``'pt2'``.

    Raises:
        ImportError: If packages for ONNX are missing.
        ValueError: If there is no such format.
    """
    if format not in FORMATS:
        raise UserError(f'format must be one of {", ".join(FORMATS)}, but got {format!r}')
    path.parent.mkdir(parents=True, exist_ok=True)
    if format == 'pt2':
        torch.export.save(program, path)
        return
    missing = [name for name in _ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise UserImportError(
            f'export to ONNX needs {" and ".join(missing)}: pip install "mtl-plugins[export]" (or take --format pt2)'
        )
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    graph = torch.onnx.export(program, dynamo=True, input_names=[INPUT], output_names=list(tasks), verbose=False)
    graph.save(path, external_data=size > _LARGEST_FILE)
