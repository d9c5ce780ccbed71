"""A group of tasks moves the shared part, other tasks may move their own parameters: the gradients for it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .batch import StepBatch, sum_of
from .gradients import Found, ParameterSplit, accumulate, add_found, caught
from .reduction import Reducer
from .restored import restored


class GroupGradients:
    """Gradients of a group's losses everywhere, and of other tasks' losses at those tasks' own parameters.

    What differentiates an idle task ends at its own parameters, so that all heads cost no more than one backward. The
    members' gradients can be taken by themselves, a backward each.

    As everywhere, a parameter is a task's own as long as no other task was seen to use it.

    Args:
        split: Which parameters are whose; it has to follow what is trainable before each :meth:`backward`.
        reducer: Tells all ranks when one of them found that a task uses more than was known.
    """

    def __init__(self, split: ParameterSplit, reducer: Reducer) -> None:
        self._split = split
        self._reducer = reducer
        self._before: dict[nn.Parameter, Tensor] = {}
        self._apart: Found = {}

    def backward(
        self,
        batch: StepBatch,
        members: Sequence[str],
        idle: Sequence[str],
        weights: Mapping[str, float],
        scale: Callable[[Tensor], Tensor],
        *,
        probes: bool = False,
        apart: bool = False,
    ) -> None:
        """Add the gradients to ``.grad`` (this rank's share), as :meth:`.batch.StepBatch.backward` does.

        Args:
            batch: Freshly measured with a graph for all these tasks.
            members: Usable tasks of the group.
            idle: Usable tasks outside it.
            weights: Task -> factor on its loss.
            scale: Gives a loss the loss scale of the precision.
            probes: Whether :meth:`as_before` will be asked for.
            apart: Whether :meth:`rows` will be asked for.
        """
        split, everyone = self._split, [*members, *idle]
        batch.weights.update({task: weights[task] for task in members})
        alone = everyone if apart else idle
        found: Found = {task: {} for task in alone}
        strays: dict[nn.Parameter, Tensor] = {}
        news: dict[str, list[nn.Parameter]] = {}
        for shares in batch.shares(everyone, backwards=len(members) if apart and members else 1):
            split.update(everyone, shares)
            losses = {task: scale(loss * weights[task]) for task, loss in shares.items()}
            for task in (task for task in alone if task in losses):
                shared = split.shared.parameters if task in members else []
                self._add(found[task], losses[task], [*shared, *split.own(task), *split.others(task)])
            group = [losses[task] for task in members if task in losses and not apart]
            if group:
                with caught(self._unreached(members), strays):
                    sum_of(group).backward()
            if strays or any(self._is_news(task, gradients) for task, gradients in found.items()):
                news = {task: [*news.get(task, []), *split.behind(loss)] for task, loss in losses.items()}
        if self._on_any_rank(bool(news), batch.device):
            split.learn(news)
        accumulate(list(strays), list(strays.values()))
        for task in alone:
            reached = list(found[task]) if task in members else split.own(task)
            accumulate(reached, [found[task].get(parameter) for parameter in reached])
        own = [parameter for task in idle for parameter in split.own(task)] if probes else []
        self._before = {parameter: parameter.detach().clone() for parameter in own}
        self._apart = {task: found[task] for task in members if apart}

    def rows(self, loss_scale: float) -> Iterator[tuple[str, Tensor]]:
        """The members' gradients of the shared parameters ``[D]``, summed over ranks, without loss scale; once each."""
        layout, apart = self._split.shared, self._apart
        self._apart = {}
        for task in list(apart):
            gradients = apart.pop(task)
            row = torch.zeros(layout.width, device=next(iter(gradients), torch.empty(0)).device)
            layout.add_to_row(row, [gradients.get(parameter) for parameter in layout.parameters])
            yield task, self._reducer.sum(row).div_(loss_scale)

    def _is_news(self, task: str, gradients: Mapping[nn.Parameter, Tensor]) -> bool:
        return bool(set(gradients) - set(self._split.own(task)) - set(self._split.shared.parameters))

    @staticmethod
    def _add(found: dict[nn.Parameter, Tensor], loss: Tensor, wanted: Sequence[nn.Parameter]) -> None:
        if wanted:
            add_found(found, wanted, torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True))

    @contextmanager
    def as_before(self) -> Iterator[None]:
        """Inside the context the idle heads are as they were before the last step, whose group alone then shows."""
        before, self._before = self._before, {}
        with restored(before):
            with torch.no_grad():
                for parameter, value in before.items():
                    parameter.copy_(value)
            yield

    def _unreached(self, members: Sequence[str]) -> list[nn.Parameter]:
        """Trainable parameters that, as far as is known, act on none of the members."""
        others = [set(self._split.others(task)) for task in members]
        return [parameter for parameter in self._split.others(members[0]) if all(parameter in each for each in others)]

    def _on_any_rank(self, here: bool, device: torch.device) -> bool:
        return (
            here if self._reducer.world_size == 1 else bool(self._reducer.sum(torch.tensor(float(here), device=device)))
        )
