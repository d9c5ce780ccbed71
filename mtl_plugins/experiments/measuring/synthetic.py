"""Batches of random images and labels in the shapes of a config, for measurements that need no data."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mtl_plugins.config.places import kind_of, walk
from mtl_plugins.datasets import collate_targets
from mtl_plugins.errors import UserTypeError
from mtl_plugins.task_specs import get_task_spec

_MISSING = 0.1
"""Share of the pixels without a label."""


def synthetic_batch(model: nn.Module, size: tuple[int, int], batch_size: int, seed: int = 0) -> dict[str, Any]:
    """A batch as the data loader hands it out, already on the device of the model.

    Args:
        model: A :class:`mtl_plugins.models.MultiTaskSegmentor`, or a segmentor or depth estimator of MMSegmentation.
        size: Height and width of the images.
        batch_size: Number of images.
        seed: Seed of the values.

    Raises:
        TypeError: If the labels that the model needs are not known.
    """
    device = next(model.parameters()).device
    return random_batch(lambda generator: _labels(model, size, generator), size, batch_size, device, seed)


def random_batch(
    labels: Callable[[torch.Generator], Mapping[str, Tensor]],
    size: tuple[int, int],
    batch_size: int,
    device: torch.device | str,
    seed: int = 0,
) -> dict[str, Any]:
    """Random images with what ``labels`` gives for each: field of the sample -> ``(c, H, W)``. Collated."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (batch_size, 3, *size), generator=generator, dtype=torch.uint8)
    samples = []
    for _ in range(batch_size):
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
        for field, target in labels(generator).items():
            sample.set_data({field: PixelData(data=target)})
        samples.append(sample.to(device))
    return collate_targets(
        [dict(inputs=image, data_samples=sample) for image, sample in zip(images.to(device), samples)]
    )


def synthetic_target(
    task: str, size: Sequence[int], generator: torch.Generator, num_classes: int = 2, channels: int | None = None
) -> Tensor:
    """Random labels ``(c, H, W)`` of a task, a tenth of them missing; ``channels`` replaces those of the task."""
    spec = get_task_spec(task)
    if spec.is_categorical:
        data = torch.randint(0, num_classes, (1, *size), generator=generator, dtype=torch.uint8)
    else:
        data = torch.rand(channels or spec.channels, *size, generator=generator) + 0.1
    if spec.kind == 'normals':
        data = nn.functional.normalize(data, dim=0)
    data[:, torch.rand(tuple(size), generator=generator) < _MISSING] = spec.fill
    return data


def image_size(cfg: Config) -> tuple[int, int] | None:
    """Height and width of the training images of a config; None if it does not tell.

    Looked for in the preprocessor, the backbone, and the crops of the training pipeline.
    """
    model = cfg.get('model') or {}
    candidates = [(model.get('data_preprocessor') or {}).get('size'), (model.get('backbone') or {}).get('img_size')]
    crops = (part for _, part in walk(cfg.get('train_dataloader')) if 'Crop' in kind_of(part))
    candidates += [part.get(name) for part in crops for name in ('size', 'crop_size')]
    candidates.append(cfg.get('crop_size'))
    size = next((candidate for candidate in candidates if candidate), None)
    return (size, size) if isinstance(size, int) else tuple(size) if size else None


def _labels(model: nn.Module, size: tuple[int, int], generator: torch.Generator) -> dict[str, Tensor]:
    if hasattr(model, 'heads'):
        return {
            f'gt_{task}': synthetic_target(task, size, generator, max(head.out_channels, 2), head.target_channels)
            for task, head in model.heads.items()
        }
    if hasattr(model, 'decode_head'):
        if type(model).__name__ == 'DepthEstimator':
            return dict(
                gt_depth_map=synthetic_target('depth', size, generator),
                gt_sem_seg=synthetic_target('semseg', size, generator).long(),
            )
        return dict(gt_sem_seg=synthetic_target('semseg', size, generator, model.decode_head.num_classes).long())
    raise UserTypeError(
        f'there are no made-up labels for {type(model).__name__}: it is neither a MultiTaskSegmentor nor a '
        'segmentor of MMSegmentation'
    )
