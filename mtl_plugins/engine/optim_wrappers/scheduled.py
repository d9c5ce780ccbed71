"""Several step strategies in one run, one at a time: a switch between them, and phases of single tasks."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from mtl_plugins.errors import UserError, UserTypeError
from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.weighting import Weighting
from mtl_plugins.registry import OPTIM_WRAPPERS
from mtl_plugins.utils import kept_memory
from mtl_plugins.utils.argument_types import Count

from ..methods import build_part
from ..step.batch import StepBatch
from ..step_cost import StepCost, StepSetup
from .base import StepOptimWrapper

_OF_THE_RUN = (
    'tasks', 'num_valid', 'precision', 'accumulative_counts', 'clip_grad', 'nonfinite', 'seed', 'loss_scale', 'dtype',
)  # fmt: skip
_PER_STRATEGY = ('bn_stats', 'same_noise')
# MMEngine's schedulers count calls of the `step` of the schedule, which comes back to that of the strategy's class.
_LENT = ('precision', 'guard', 'silent', 'policy', 'reducer', 'zero_rows', 'step')


class ScheduledOptimWrapper(StepOptimWrapper):
    """Base of the schedules: strategies over one optimizer, one of which takes each step.

    Each strategy keeps its own state and random numbers, which stand still while another steps. What concerns the whole
    run (precision, accumulation, clipping, tasks, seed) is set here, once.

    Args:
        optimizer: The optimizer that is stepped.
        strategies: Configs of the strategies, in order.
        **kwargs: See :class:`mtl_plugins.engine.optim_wrappers.base.StepOptimWrapper`; ``bn_stats`` and ``same_noise``
            are for those strategies that do not set them.

    Raises:
        UserError: If a strategy sets what is set for the whole run, or is no strategy.
    """

    def __init__(self, optimizer: Optimizer, strategies: Sequence[Mapping[str, Any]], **kwargs: Any) -> None:
        super().__init__(optimizer, **kwargs)
        given = {name: kwargs[name] for name in _PER_STRATEGY if name in kwargs}
        given.update(accumulative_counts=self._accumulative_counts, clip_grad=kwargs.get('clip_grad'))
        self._strategies: tuple[StepOptimWrapper, ...] = ()
        self._strategies = tuple(self._build(number, cfg, given) for number, cfg in enumerate(strategies))
        self.num_steps = 0
        self._last = 0
        self._chosen: int | None = None
        for strategy in self._strategies:
            self.when_tasks_are_known(strategy.names.settle)

    def _build(self, number: int, cfg: Mapping[str, Any], given: Mapping[str, Any]) -> StepOptimWrapper:
        wrong = [name for name in _OF_THE_RUN if isinstance(cfg, Mapping) and name in cfg]
        if wrong:
            raise UserError(
                f'strategy {number + 1}: {wrong[0]} is set for all strategies together: write it beside them, as '
                f'optim_wrapper.{wrong[0]}'
            )
        # Streams that do not repeat each other, and nothing that ranks would have to agree on.
        seed = (self.generator.initial_seed() + 1 + number) % 2**63
        strategy = build_part(
            OPTIM_WRAPPERS, cfg, f'strategy {number + 1}', optimizer=self.optimizer, seed=seed, **given
        )
        if not isinstance(strategy, StepOptimWrapper) or isinstance(strategy, ScheduledOptimWrapper):
            raise UserTypeError(
                f'strategy {number + 1} must be an optimizer wrapper of mtl_plugins that is no schedule itself, for '
                f'example dict(type="mtl_plugins.MultiTaskOptimWrapper"), but got {type(strategy).__name__}'
            )
        return strategy

    def method_settings(self) -> dict[str, Any]:
        """As the base, with the kinds of the strategies, whose own settings are with them."""
        kinds = {f'strategy {number}.type': type(each).__name__ for number, each in enumerate(self._strategies, 1)}
        return {**kinds, **super().method_settings()}

    @property
    def strategies(self) -> tuple[StepOptimWrapper, ...]:
        """The strategies that the schedule chooses from."""
        return self._strategies

    @property
    def weighting(self) -> Weighting | None:
        """The loss weighting of the last strategy."""
        return getattr(self._strategies[-1], 'weighting', None)

    @property
    def maps_parameters(self) -> bool:  # type: ignore[override]
        """Whether the strategy of this step finds out itself which parameters each task uses."""
        return self.current.maps_parameters

    @abstractmethod
    def _choose(self, iteration: int) -> int:
        """Number of the strategy that takes the step which begins with this batch; called once per step."""

    @property
    def current(self) -> StepOptimWrapper:
        """The strategy of this step; decided at its first batch, by rank 0."""
        if self._chosen is None:
            (self._chosen,) = self.decide(lambda: [self._choose(self.num_steps * self._accumulative_counts)])
            if self._chosen != self._last:
                self.zero_grad(set_to_none=True)  # a strategy may leave zeros behind, by which momentum would go on
                kept_memory.release()  # that of the strategy which steps no longer
                self._forget_logged()
            self._last = self._chosen
        strategy = self._strategies[self._chosen]
        for name in _LENT:
            setattr(strategy, name, getattr(self, name))
        return strategy

    def _forget_logged(self) -> None:
        """The log would go on to show the last numbers of a strategy that steps no longer."""
        scalars = self.message_hub.log_scalars
        for name in [name for name in scalars if name.endswith('.weight') or name == 'train/num_groups']:
            del scalars[name]

    def cost_per_batch(self) -> StepCost:
        """That of the strategy which took the last step."""
        return self._strategies[self._last].cost_per_batch()

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """As the base, with what the strategy of this step wants of its forwards."""
        self.attach(model)
        strategy = self.current
        self.policy.bn_stats, self.policy.same_noise = strategy.bn_stats, strategy.same_noise
        with super().optim_context(model):
            yield

    def first_request(self) -> Sequence[str] | None:
        """What the strategy of this step asks for."""
        return self.current.first_request()

    def watching(self) -> AbstractContextManager[None]:
        """What the strategy of this step watches."""
        return self.current.watching()

    def step(self, **kwargs: Any) -> bool:
        """As the strategy of this step does it, which may clip in its own way."""
        strategy = self._strategies[self._last]
        strategy._steps = self._steps
        return type(strategy).step(strategy, **kwargs)

    def _step_tasks(self, batch: StepBatch) -> None:
        self.current._step_tasks(batch)
        self.num_steps += 1
        self._chosen = None

    def _log(self, batch: StepBatch) -> None:
        self._strategies[self._last]._log(batch)
        self.message_hub.update_scalar('train/strategy', self._last)

    def strategy_state(self) -> dict[str, Any]:
        """The place in the schedule, and the states of all strategies."""
        return dict(
            num_steps=self.num_steps,
            last=self._last,
            strategies=[dict(generator=s.generator.get_state(), state=s.strategy_state()) for s in self._strategies],
        )

    def load_strategy_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`strategy_state`."""
        self.num_steps, self._last, self._chosen = int(state['num_steps']), int(state['last']), None
        for strategy, saved in zip(self._strategies, state['strategies']):
            strategy.generator.set_state(saved['generator'].cpu().to(torch.uint8))
            strategy.load_strategy_state(saved['state'])


@OPTIM_WRAPPERS.register_module()
class SwitchOptimWrapper(ScheduledOptimWrapper):
    """One strategy after the other, each from a given iteration on; STGU early only, or late only.

    Args:
        optimizer: The optimizer that is stepped.
        strategies: Configs of the strategies, in order.
        at: Iteration at which the second strategy takes over; for more than two strategies one for each but the first.
            With ``accumulative_counts`` the step that begins at it or next is the first of the new strategy.
        **kwargs: See :class:`ScheduledOptimWrapper`.

    Raises:
        UserError: If the numbers do not rise, or are not one fewer than the strategies, or training ends before.

    Example:
        >>> import torch
        >>> from mtl_plugins.engine.optim_wrappers import SwitchOptimWrapper
        >>> x = torch.nn.Parameter(torch.zeros(1))
        >>> strategies = [dict(type='SelectiveTaskGroupOptimWrapper'), dict(type='MultiTaskOptimWrapper')]
        >>> SwitchOptimWrapper(torch.optim.SGD([x], lr=0.1), strategies, at=1000).method_name
        'switch(stgu, gd)'
    """

    def __init__(
        self, optimizer: Optimizer, strategies: Sequence[Mapping[str, Any]], at: int | Sequence[int], **kwargs: Any
    ) -> None:
        numbers = list(at) if isinstance(at, (list, tuple)) else [at]
        if not all(isinstance(n, int) and n > before for before, n in zip([0, *numbers], numbers)):
            raise UserError(f'at must be iterations from 1 on that rise, but got {at!r}')
        if not strategies:
            raise UserError('strategies must hold at least one config of an optimizer wrapper, but is empty')
        if len(numbers) != len(strategies) - 1:
            raise UserError(
                f'at must name an iteration for each strategy but the first, that is {len(strategies) - 1}, but got '
                f'{at!r}'
            )
        super().__init__(optimizer, strategies, **kwargs)
        self.at = numbers

    @property
    def method_name(self) -> str:
        """The keys of the strategies."""
        return f'switch({", ".join(strategy.method_name for strategy in self.strategies)})'

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Called by the Runner before training.

        Raises:
            UserError: If training ends before the last strategy.
        """
        if self.at and self.at[-1] >= max_counts:
            raise UserError(
                f'at={self.at}: training ends after {max_counts} iterations, so that strategy {len(self.strategies)} '
                'would never step; use an earlier iteration or train longer'
            )
        super().initialize_count_status(model, init_counts, max_counts)

    def _choose(self, iteration: int) -> int:
        return sum(iteration >= number for number in self.at)


@OPTIM_WRAPPERS.register_module()
class PhasesOptimWrapper(ScheduledOptimWrapper):
    """Single tasks at first, all of them jointly later (Jeong and Yoon, "Quantifying Task Priority", CVPR 2024).

    In unit e of E, counted from 0, the tasks step one after the other with probability 1 - e / E, in random order and
    each on its own forward; else ``joint`` takes the step. Only the schedule is from that paper, as its program has it;
    nothing else of the paper is here.

    Args:
        optimizer: The optimizer that is stepped.
        joint: Config of the strategy of the joint steps; None for ordinary training.
        every: Iterations of a unit. 1: each step is drawn for itself; the iterations of an epoch: each epoch is.
        total: Iterations of the whole training; None for what the Runner says.
        **kwargs: See :class:`ScheduledOptimWrapper`.

    Raises:
        UserError: If a number is not positive, or nobody knows how long the training is.
    """

    facts = MethodFacts(
        'Single tasks at first, jointly later; the schedule alone',
        paper='Jeong and Yoon, Quantifying Task Priority for Multi-Task Optimization, CVPR 2024',
        verified='each step: bit-equal to the strategies by themselves; share of single steps. The cost is that of the '
        'beginning and falls to that of the joint step',
    )

    def __init__(
        self,
        optimizer: Optimizer,
        joint: Mapping[str, Any] | None = None,
        every: Count = 1,
        total: Count | None = None,
        **kwargs: Any,
    ) -> None:
        single = dict(
            type='SelectiveTaskGroupOptimWrapper', grouper=dict(type='Singletons'), warmup_iters=0, probe_interval=0
        )
        super().__init__(optimizer, [single, joint or dict(type='MultiTaskOptimWrapper')], **kwargs)
        self.every = every
        self.total = total
        self._unit = -1
        self._drawn = 0

    @property
    def method_name(self) -> str:
        """``phases``, with the key of the joint strategy where that is not ordinary training."""
        joint = self.strategies[-1].method_name
        return 'phases' if joint == 'gd' else f'phases({joint})'

    @classmethod
    def cost(cls, setup: StepSetup) -> StepCost:
        """That of a step of single tasks, which is what training begins with."""
        return StepCost(setup.num_tasks, setup.num_tasks, setup.num_tasks)

    def _choose(self, iteration: int) -> int:
        total = self.total or self._max_counts
        if total < 1:
            raise UserError(
                'phases: the share of single steps falls over the length of the training, which nobody told: set '
                'optim_wrapper.total to the number of iterations'
            )
        unit, units = iteration // self.every, math.ceil(total / self.every)
        if unit != self._unit:
            self._unit = unit
            self._drawn = int(float(torch.rand(1, generator=self.generator)) >= 1 - unit / units)
        return self._drawn

    def strategy_state(self) -> dict[str, Any]:
        """As the base, with what was drawn for the present unit."""
        return dict(**super().strategy_state(), unit=self._unit, drawn=self._drawn)

    def load_strategy_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`strategy_state`."""
        super().load_strategy_state(state)
        self._unit, self._drawn = int(state['unit']), int(state['drawn'])
