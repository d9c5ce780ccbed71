"""Norms of the tasks' gradients at the last shared layer, which some loss weightings balance."""

from collections.abc import Sequence

from torch import nn

from mtl_plugins.errors import UserError

from .batch import StepBatch
from .gradients import ParameterSplit, SharedLayout
from .task_rows import TaskRows


def last_shared_layer(split: ParameterSplit, name: str | None = None) -> list[nn.Parameter]:
    """Parameters W of the layer whose gradients are compared; none if no parameter that is trainable now is shared.

    Args:
        split: Who uses which parameter.
        name: Module or parameter name; None takes the module of the last shared parameter in the model's order.

    Raises:
        UserError: If ``name`` is not the name of parameters that tasks were seen to share.
    """
    shared, known = dict(zip(split.columns, split.shared.parameters)), split.known_shared()
    if not known or (name is None and not shared):
        return []
    prefix = name if name is not None else list(shared)[-1].rpartition('.')[0]

    def belongs(each: str) -> bool:
        return each == prefix or each.startswith(f'{prefix}.')

    if not any(map(belongs, known)):
        raise UserError(f"shared_layer='{name}' names no shared parameters; the last ones are {', '.join(known[-4:])}")
    return [parameter for each, parameter in shared.items() if belongs(each)]


def gradient_norms(
    batch: StepBatch, members: Sequence[str], split: ParameterSplit, name: str | None = None
) -> dict[str, float]:
    """Norm of each member's averaged gradient with respect to the layer; the graph stays for the backward to come.

    Args:
        batch: Freshly measured with a graph, of one micro-batch.
        members: Usable tasks.
        split: Who uses which parameter, on all ranks.
        name: See :func:`last_shared_layer`.
    """
    news = True
    while news:  # a second time where a gradient arrived at a parameter that its task was not known to reach
        rows = TaskRows.zeros(members, SharedLayout(last_shared_layer(split, name)), batch.device)
        for shares in batch.shares(members, keep=True):
            rows.add(shares, others=split.others, keep=True)
        news = split.any_found(rows.flat, rows.found)
        if news:
            split.learn(rows.found)
    return dict(zip(members, rows.matrix.norm(dim=1).tolist()))
