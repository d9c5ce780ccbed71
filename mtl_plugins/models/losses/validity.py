"""Which pixels of a target are labelled."""

import torch
from torch import Tensor

from mtl_plugins.task_specs import IGNORE_INDEX, TaskSpec


def valid_mask(spec: TaskSpec, target: Tensor) -> Tensor:
    """Labelled pixels of a batch of targets.

    Class and binary maps mark "not labelled" with 255, all others with NaN (infinities count as not labelled too). A
    depth that is not above 0 and a normal of zero length are not labelled either.

    Args:
        spec: The task.
        target: Its targets, ``(N, c, H, W)``.

    Returns:
        Bool tensor ``(N, H, W)``.
    """
    if spec.is_categorical:
        return target[:, 0] != IGNORE_INDEX
    valid = torch.isfinite(target).all(dim=1)
    if spec.kind == 'depth':
        return valid & (target[:, 0] > 0)
    if spec.kind == 'normals':
        return valid & (target != 0).any(dim=1)
    return valid
