"""Whether two loops make the same update: without that, comparing their costs says nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .systems import ReleasedLoop, build_optimizer, build_stgu
from .workload import Workload

TOLERANCE = 1e-5


class UnequalUpdatesError(RuntimeError):
    """Raised when the compared loops do not train the same: the comparison is void."""


def update_difference(work: Workload, batch: dict[str, Any], num_groups: int, batches: int = 2) -> float:
    """Relative difference of the updates that ``stgu`` and the released loop make.

    Both start from the same weights, step the same groups in the same order and draw the same drop-path masks (so
    ``same_noise`` is off here). More than one batch, because the first one leaves all Adam moments equal by chance.

    Returns:
        ``|u - v| / |v|`` over all parameters.
    """
    ours = build_stgu(work, batch, num_groups, same_noise=False)
    start = _flat(ours.model)
    orders = _watch_orders(ours.model)
    torch.manual_seed(1)
    for _ in range(batches):
        ours.step()

    model = work.build_model()
    loop = ReleasedLoop(model, build_optimizer(model), work.groups(num_groups))
    torch.manual_seed(1)
    for index in range(batches):
        loop.step(batch, orders[index * num_groups : (index + 1) * num_groups])
    return float((_flat(ours.model) - _flat(model)).norm() / (_flat(model) - start).norm())


def check_equal_updates(work: Workload, batch: dict[str, Any]) -> dict[int, float]:
    """:func:`update_difference` for each number of groups.

    Raises:
        UnequalUpdatesError: If one exceeds :data:`TOLERANCE`.
    """
    differences = {num_groups: update_difference(work, batch, num_groups) for num_groups in work.group_counts()}
    for num_groups, difference in differences.items():
        if not difference <= TOLERANCE:
            raise UnequalUpdatesError(
                f'with {work.num_tasks} tasks in {num_groups} groups, stgu and the released loop make different '
                f'updates (relative difference {difference:.2e}, at most {TOLERANCE:g} allowed); their costs cannot '
                'be compared'
            )
    return differences


def _watch_orders(model: nn.Module) -> list[tuple[str, ...]]:
    """The groups in the order in which they step, as the model is told of them; filled in as it trains."""
    seen: list[tuple[str, ...]] = []
    set_active_tasks = model.set_active_tasks

    def watched(tasks: tuple[str, ...] | None) -> None:
        if tasks is not None:
            seen.append(tuple(tasks))
        set_active_tasks(tasks)

    model.set_active_tasks = watched
    return seen


def _flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().double().reshape(-1) for p in model.parameters()])
