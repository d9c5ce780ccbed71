"""Norms of the tasks' gradients at the last shared layer, which some loss weightings balance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl_plugins.errors import UserError

from .parameters import ParameterTable
from .reduction import Reducer
from .step_batch import StepBatch


def last_shared_layer(model: nn.Module, table: ParameterTable, name: str | None = None) -> list[nn.Parameter]:
    """Parameters W of the layer whose gradients are compared.

    Args:
        model: The bare model.
        table: Who uses which parameter; at least two tasks must have been seen.
        name: Module or parameter name; None takes the module of the last shared parameter in the model's order.

    Raises:
        ValueError: If there is no such layer, or it is not shared.
    """
    shared = table.shared()
    if not shared:
        raise UserError('no parameter is shared by two tasks, so there is no last shared layer')
    prefix = name if name is not None else shared[-1].rpartition('.')[0]
    names = [each for each in shared if each == prefix or each.startswith(f'{prefix}.')]
    if not names:
        raise UserError(f"shared_layer='{name}' names no shared parameters; the last ones are {', '.join(shared[-4:])}")
    parameters = dict(model.named_parameters())
    return [parameters[each] for each in names]


def gradient_norms(
    batch: StepBatch, members: Sequence[str], layer: Sequence[nn.Parameter], reducer: Reducer
) -> dict[str, float]:
    """Norm of each member's averaged gradient with respect to ``layer``; the graph stays for the backward to come.

    Args:
        batch: Freshly measured with a graph, of one micro-batch.
        members: Usable tasks.
        layer: The parameters W.
        reducer: Sums over ranks.
    """
    rows = torch.zeros(len(members), sum(p.numel() for p in layer), device=layer[0].device)
    for shares in batch.shares(members, keep=True):
        for index, task in enumerate(members):
            if task in shares:
                gradients = torch.autograd.grad(shares[task], layer, retain_graph=True, allow_unused=True)
                parts: list[Tensor] = [torch.zeros_like(p) if g is None else g for p, g in zip(layer, gradients)]
                rows[index] += torch.cat([part.reshape(-1).float() for part in parts])
    return dict(zip(members, reducer.sum(rows).norm(dim=1).tolist()))
