"""From the raw output of a head to what its task means."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl_plugins.task_specs import TaskSpec


def decode_logits(spec: TaskSpec, logits: Tensor) -> Tensor:
    """Turn raw outputs ``(N, C, H, W)`` into predictions.

    Args:
        spec: The task.
        logits: Output of its head, floating point.

    Returns:
        By kind of task, in float32 unless said otherwise: ``classes`` the index of the likeliest class, int64
        ``(N, 1, H, W)``; ``binary`` the probability of the positive class ``(N, 1, H, W)``; ``depth`` metres >= 0
        ``(N, 1, H, W)``; ``normals`` unit vectors ``(N, 3, H, W)``, towards the viewer where the output has no
        direction; ``regression`` the output as it is.
    """
    if spec.kind == 'classes':
        return logits.argmax(dim=1, keepdim=True)
    logits = logits.float()
    if spec.kind == 'binary':
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)[:, 1:]
    if spec.kind == 'depth':
        return logits.clamp_min(0)
    if spec.kind == 'normals':
        towards_viewer = logits.new_tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
        has_direction = logits.norm(dim=1, keepdim=True) > 1e-6
        return torch.where(has_direction, F.normalize(logits, dim=1), towards_viewer)
    return logits


def decode_views(spec: TaskSpec, views: Sequence[Tensor]) -> Tensor:
    """One prediction out of the raw outputs for several views of an image, brought back to the same pixels.

    What is averaged has a meaning: probabilities of classes and of binary tasks, unit vectors of normals (whose mean is
    brought back to length 1), metres, the values of a regression.

    Args:
        spec: The task.
        views: Raw outputs ``(N, C, H, W)``, one or more.

    Returns:
        As :func:`decode_logits`.
    """
    if len(views) == 1:
        return decode_logits(spec, views[0])
    if spec.kind == 'classes':
        return torch.stack([view.softmax(dim=1) for view in views]).mean(dim=0).argmax(dim=1, keepdim=True)
    mean = torch.stack([decode_logits(spec, view) for view in views]).mean(dim=0)
    return decode_logits(spec, mean) if spec.kind == 'normals' else mean
