"""One backward in which a group of tasks moves the shared part and the other tasks move their own parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .batch import StepBatch, sum_of
from .gradients import Found, ParameterSplit, accumulate, add_found, caught
from .parameters import ParameterTable
from .reduction import Reducer
from .restored import restored


class IdleHeads:
    """Gradients of a group's losses everywhere, and of other tasks' losses at those tasks' own parameters.

    The price is that of one backward of all losses: what differentiates an idle task ends at its own parameters.

    As everywhere, a parameter is a task's own as long as no other task was seen to use it.

    Args:
        reducer: Tells all ranks when one of them found that a task uses more than was known.
    """

    def __init__(self, reducer: Reducer) -> None:
        self._reducer = reducer
        self._split: ParameterSplit | None = None
        self._known: dict[str, list[str]] = {}
        self._before: dict[nn.Parameter, Tensor] = {}

    def follow(self, table: ParameterTable, trainable: Sequence[nn.Parameter]) -> None:
        """Learn which parameters are trainable now; before each :meth:`backward`."""
        if self._split is None:
            self._split = ParameterSplit(table, self._reducer, self._known)
        self._split.follow(trainable)

    def backward(
        self,
        batch: StepBatch,
        members: Sequence[str],
        idle: Sequence[str],
        weights: Mapping[str, float],
        scale: Callable[[Tensor], Tensor],
        probes: bool,
    ) -> None:
        """Add the gradients to ``.grad`` (this rank's share), as :meth:`.batch.StepBatch.backward` does.

        Args:
            batch: Freshly measured with a graph for all these tasks.
            members: Usable tasks of the group.
            idle: Usable tasks outside it.
            weights: Task -> factor on its loss.
            scale: Gives a loss the loss scale of the precision.
            probes: Whether :meth:`as_before` will be asked for.
        """
        split, everyone = self._split, [*members, *idle]
        batch.weights.update({task: weights[task] for task in members})
        found: Found = {task: {} for task in idle}
        strays: dict[nn.Parameter, Tensor] = {}
        news: dict[str, list[nn.Parameter]] = {}
        for shares in batch.shares(everyone):
            split.update(everyone, shares)
            losses = {task: scale(loss * weights[task]) for task, loss in shares.items()}
            for task in (task for task in idle if task in losses):
                wanted = [*split.own(task), *split.others(task)]
                if wanted:
                    gradients = torch.autograd.grad(losses[task], wanted, retain_graph=True, allow_unused=True)
                    add_found(found[task], wanted, gradients)
            group = [losses[task] for task in members if task in losses]
            if group:
                with caught(self._unreached(members), strays):
                    sum_of(group).backward()
            if strays or any(set(gradients) - set(split.own(task)) for task, gradients in found.items()):
                news = {task: [*news.get(task, []), *split.behind(loss)] for task, loss in losses.items()}
        if self._on_any_rank(bool(news), batch.device):
            split.learn(news)
        accumulate(list(strays), list(strays.values()))
        for task in idle:
            accumulate(split.own(task), [found[task].get(parameter) for parameter in split.own(task)])
        own = [parameter for task in idle for parameter in split.own(task)] if probes else []
        self._before = {parameter: parameter.detach().clone() for parameter in own}

    @contextmanager
    def as_before(self) -> Iterator[None]:
        """Inside the context the idle heads are as they were before the last step, whose group alone then shows."""
        before, self._before = self._before, {}
        with restored(before):
            with torch.no_grad():
                for parameter, value in before.items():
                    parameter.copy_(value)
            yield

    def state_dict(self) -> dict[str, list[str]]:
        """Which parameters each task was seen to use: plain state."""
        return self._known if self._split is None else self._split.export()

    def load_state_dict(self, state: Mapping[str, Sequence[str]]) -> None:
        """Restore :meth:`state_dict`."""
        self._known = {task: list(names) for task, names in state.items()}
        self._split = None

    def _unreached(self, members: Sequence[str]) -> list[nn.Parameter]:
        """Trainable parameters that, as far as is known, act on none of the members."""
        others = [set(self._split.others(task)) for task in members]
        return [parameter for parameter in self._split.others(members[0]) if all(parameter in each for each in others)]

    def _on_any_rank(self, here: bool, device: torch.device) -> bool:
        return (
            here if self._reducer.world_size == 1 else bool(self._reducer.sum(torch.tensor(float(here), device=device)))
        )
