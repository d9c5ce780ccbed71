"""From the raw output of a head to what its task means."""

from __future__ import annotations

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
