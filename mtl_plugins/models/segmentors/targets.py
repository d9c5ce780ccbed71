"""Collects the targets of one task from a batch of data samples."""

from collections.abc import Sequence

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from mtl_plugins.errors import UserError
from mtl_plugins.structures.batches import stacked
from mtl_plugins.task_specs import TaskSpec


def sample_name(sample: BaseDataElement, index: int) -> str:
    """How messages name a sample: its image, else its place in the batch."""
    return (
        f"sample '{sample.metainfo['img_path']}'" if sample.metainfo.get('img_path') else f'sample {index} of the batch'
    )


def stack_targets(
    spec: TaskSpec,
    samples: Sequence[BaseDataElement],
    size: tuple[int, int],
    device: torch.device,
    channels: int | None = None,
) -> Tensor | None:
    """Stack ``gt_<task>`` of all samples; samples without it count as not labelled.

    Args:
        spec: The task.
        samples: Data samples of the batch.
        size: Height and width of the network input, which every target must have.
        device: Where the result belongs.
        channels: Channels that every target must have, by default those of the task.

    Returns:
        Targets ``(N, c, H, W)``, or None if no sample has any. They may be the memory of the samples' own.

    Raises:
        ValueError: If a target has the wrong shape or type; the message names the sample and the task.
    """
    found = {
        index: _checked(spec, sample, index, size, channels or spec.target_channels)
        for index, sample in enumerate(samples)
        if f'gt_{spec.key}' in sample
    }  # fmt: skip
    if not found:
        return None
    some = next(iter(found.values()))
    blank = None if len(found) == len(samples) else torch.full_like(some, spec.fill)
    return stacked([found.get(index, blank) for index in range(len(samples))]).to(device, non_blocking=True)


def _checked(spec: TaskSpec, sample: BaseDataElement, index: int, size: tuple[int, int], channels: int) -> Tensor:
    target = sample.get(f'gt_{spec.key}').data
    where = f"gt_{spec.key} of {sample_name(sample, index)} (task '{spec.key}')"
    if target.ndim != 3 or target.shape[0] != channels:
        hint = (
            f'; if the data are right, set model.heads.{spec.key}.channels={target.shape[0]}'
            if spec.kind == 'regression' and target.ndim == 3
            else ''
        )
        raise UserError(f'{where} must have shape ({channels}, H, W), but got {tuple(target.shape)}{hint}')
    if tuple(target.shape[-2:]) != tuple(size):
        raise UserError(
            f'{where} has size {tuple(target.shape[-2:])}, but the image, and so the prediction, has {tuple(size)}; '
            'resize, crop and pad image and targets together (the transforms of mtl_plugins do)'
        )
    if target.is_floating_point() == spec.is_categorical:
        kind = 'integers' if spec.is_categorical else 'floating point numbers'
        raise UserError(f'{where} must hold {kind}, but has type {target.dtype}')
    return target
