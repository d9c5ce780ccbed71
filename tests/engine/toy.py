"""A small dense multi-task model and batches for it, with every feature that the step engine has to respect."""

from __future__ import annotations

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

TASKS = ('a', 'b', 'c')


class ToyModel(BaseModel):
    """Two shared convolutions and one 1x1 convolution per task; losses are means over valid elements.

    Args:
        batch_norm: Put a BatchNorm into the backbone and into each head.
        dropout: Dropout rate behind the backbone.
        idle_without_graph: Offer ``set_active_tasks``.
        report_valid: Report ``<task>.num_valid``.
    """

    def __init__(self, batch_norm=False, dropout=0.0, idle_without_graph=True, report_valid=True, tasks=TASKS):
        super().__init__()
        norm = nn.BatchNorm2d if batch_norm else lambda channels: nn.Identity()
        self.tasks = tuple(tasks)
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), norm(6), nn.Tanh(), nn.Dropout(dropout), nn.Conv2d(6, 6, 1), nn.Tanh()
        )
        self.heads = nn.ModuleDict({t: nn.Sequential(nn.Conv2d(6, 1, 1), norm(1)) for t in self.tasks})
        self.report_valid = report_valid
        self._active = None
        if not idle_without_graph:
            self.set_active_tasks = None

    def set_active_tasks(self, tasks):
        self._active = tasks

    def forward(self, inputs: Tensor, targets: dict[str, Tensor], mode: str = 'tensor'):
        features = self.backbone(inputs)
        out = {}
        for task, target in targets.items():
            idle = self._active is not None and task not in self._active
            with torch.set_grad_enabled(torch.is_grad_enabled() and not idle):
                error = self.heads[task](features).float() - torch.nan_to_num(target)
            valid = ~torch.isnan(target)
            count = valid.sum().float()
            out[f'{task}.loss'] = (error.square() * valid).sum() / count.clamp_min(1)
            if self.report_valid:
                out[f'{task}.num_valid'] = count
        return out


def toy_batch(seed: int, size: int = 4, tasks=TASKS, invalid: float = 0.0) -> dict:
    """A batch in which the targets depend on the input; a share ``invalid`` of the pixels is unlabelled."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 3, 5, 6, generator=generator)
    targets = {}
    for k, task in enumerate(TASKS):
        target = (k + 1) * inputs[:, k : k + 1] * inputs.mean(1, keepdim=True) + 0.3 * k
        mask = torch.rand(target.shape, generator=generator) < invalid
        if task in tasks:
            targets[task] = target.masked_fill(mask, float('nan'))
    return dict(inputs=inputs, targets=targets)


def join(*batches: dict) -> dict:
    """One batch of several; a task that one of them lacks is unlabelled there."""
    inputs = torch.cat([batch['inputs'] for batch in batches])
    targets = {}
    for task in TASKS:
        if any(task in batch['targets'] for batch in batches):
            parts = [
                batch['targets'].get(task, torch.full_like(batch['inputs'][:, :1], float('nan'))) for batch in batches
            ]
            targets[task] = torch.cat(parts)
    return dict(inputs=inputs, targets=targets)


def make_model(seed: int = 0, **kwargs) -> ToyModel:
    """A model with fixed weights."""
    torch.manual_seed(seed)
    return ToyModel(**kwargs).train()


def flat(model: nn.Module) -> Tensor:
    """All parameters as one vector (a copy)."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])
