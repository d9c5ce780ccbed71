"""Targets of a batch in one tensor per task, so that they are copied and stacked once."""

from collections.abc import Sequence

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

TARGETS = 'targets'
"""Entry of a collated batch: ``{'gt_<task>': (N, C, H, W)}``, for tasks whose targets are alike in all samples."""


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """The parts as one tensor: the one that they are the rows of, without a copy, if there is such a one."""
    base = parts[0]._base
    if base is not None and base.shape == (len(parts), *parts[0].shape) and base.is_contiguous():
        size = parts[0].numel() * base.element_size()
        if all(p._base is base and p.data_ptr() == base.data_ptr() + i * size for i, p in enumerate(parts)):
            return base
    return torch.stack(list(parts))


def alike_targets(samples: Sequence[BaseDataElement]) -> dict[str, list[Tensor]]:
    """``gt_<task>`` of all samples, where all have it and in one shape and type."""
    found = {}
    for key in [key for key in samples[0].keys() if key.startswith('gt_')] if samples else []:  # noqa: SIM118
        parts = [getattr(sample.get(key), 'data', None) for sample in samples]
        if all(isinstance(part, Tensor) and part.ndim == 3 for part in parts):
            kinds = {(part.shape, part.dtype, part.device) for part in parts}
            found.update({key: parts} if len(kinds) == 1 else {})
    return found
