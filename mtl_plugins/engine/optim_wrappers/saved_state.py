"""What an optimizer wrapper of ours writes into a checkpoint, and when it takes it back."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from mmengine.dist import get_world_size
from mmengine.optim import OptimWrapper

from mtl_plugins.errors import UserError
from mtl_plugins.runtime.checkpoints.optimizer_settings import plain, wrapper_settings
from mtl_plugins.runtime.checkpoints.stock_resume import describe_plan, warn_of_plan, warn_of_settings
from mtl_plugins.utils.argument_types import Checked, given_arguments
from mtl_plugins.version import __version__

from ..catalogue import list_methods
from ..method_keys import former_name, key_of_former, method_key
from ..methods import make_the_same, settings_of, with_default_parts
from ..optimizers.spread_state import is_spread, not_gathered, state_on_first
from ..running import runner_around

STATE_VERSION = 2
"""Version 1 named methods by classes."""


class SavedState(Checked, OptimWrapper):
    """The part of :class:`.base.StepOptimWrapper` that deals with checkpoints."""

    PLACE = 'optim_wrapper'
    own_defaults: ClassVar[dict[str, Any]] = {}
    """Defaults of arguments that its base has with others."""
    method_parts: tuple[str, ...] = ()
    """Names of the classes of :mod:`mtl_plugins.methods` that the step is made of, the loss weighting first."""
    _optimizer_state: dict[str, Any] | None = None
    """What :meth:`gather_state` brought of the optimizer's state, until the next step."""
    _strategy_to_load: dict[str, Any] | None = None
    """:meth:`strategy_state` of a checkpoint, until the tasks are known."""
    _resumed: tuple[dict[str, Any], dict[str, Any]] | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep the arguments, for :meth:`method_settings`."""
        wrapper = super().__new__(cls, *args, **kwargs)
        wrapper._given = given_arguments(cls, args, kwargs)
        return wrapper

    def method_settings(self) -> dict[str, Any]:
        """The settings of the method and its parts by dotted names, without those that every wrapper has."""
        common = next(kind for kind in type(self).__mro__ if SavedState in kind.__bases__)
        given = {**self.own_defaults, **self._given}
        return self.in_effect(settings_of(type(self), given, set(inspect.signature(common).parameters)))

    def in_effect(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings by dotted names with what None stands for; older checkpoints hold None itself."""
        return with_default_parts(settings)

    def changed_settings(self, saved: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Settings of the method that differ in effect, each as it was and is; what one side does not have is left out.

        Args:
            saved: :meth:`method_settings` of the run that is resumed, as plain data.
        """
        before, now = self.in_effect(saved), plain(self.method_settings())
        parts = (name.removesuffix('.type') for name in now if name.endswith('.type') and name in before)
        same = [f'{part}.' for part in parts if make_the_same(part, before, now)]
        found = {}
        for name in dict.fromkeys([*now, *before]):
            # A part may have stood for None, which has no type.
            old, new = (each.get(name, each.get(name.removesuffix('.type'), each)) for each in (before, now))
            if old != new and old is not before and new is not now and not name.startswith(tuple(same)):
                found[name] = (old, new)
        return found

    @property
    def method_name(self) -> str:
        """Key of the method, as ``--method`` takes it; stored in checkpoints and compared on resume."""
        return method_key(type(self), self.method_parts)

    @property
    def former_method_name(self) -> str:
        """The method as checkpoints of version 1 name it."""
        return former_name(type(self), self.method_parts) if self.method_parts else self.method_name

    def strategy_state(self) -> dict[str, Any]:
        """What the strategy must carry over to a resumed run: plain tensors, numbers, strings, lists, dicts."""
        return dict(weighting=self.weighting.state_dict(), parameters=self.split.export())

    def load_strategy_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`strategy_state`."""
        self.weighting.load_state_dict(state['weighting'])
        # Without it the first batch after a resume would have to show all tasks, or rows would change their length.
        self.split.restore(state.get('parameters', {}))

    def gather_state(self) -> None:
        """Bring to the first process what its :meth:`state_dict` takes from all; a collective call after the last step.

        Needed where state is spread over processes; :class:`mtl_plugins.runtime.hooks.RNGStateHook` calls it before
        every save.
        """
        if is_spread(self.optimizer):
            self._optimizer_state = state_on_first(self.optimizer)

    def _whole_optimizer_state(self) -> dict[str, Any]:
        if not is_spread(self.optimizer):
            return super().state_dict()
        if self._optimizer_state is None and get_world_size() == 1:
            self.gather_state()
        if self._optimizer_state is None:
            raise not_gathered(type(self.optimizer).__name__)
        settings = getattr(self, 'base_param_settings', None)
        return {**self._optimizer_state, **({} if settings is None else dict(base_param_settings=settings))}

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state, and under ``'mtl'`` the method's own; see :meth:`gather_state`."""
        state = self._whole_optimizer_state()
        state['mtl'] = dict(
            version=STATE_VERSION,
            written_by=__version__,
            method=self.method_name,
            tasks=list(self.task_names or ()),
            generator=self.generator.get_state(),
            settings=wrapper_settings(self),
            max_iters=describe_plan(runner_around()).get('max_iters'),
            precision=self.precision.state_dict(),
            nonfinite=self.guard.state_dict(),
            zero_rows=dict(self.zero_rows),
            strategy=self.strategy_state() if self.task_names is not None else {},
        )
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`.

        Raises:
            ValueError: If the state was written by another method or for other tasks; the message says how to go on.
        """
        state_dict = dict(state_dict)
        mtl = state_dict.pop('mtl', None)
        if mtl is not None:
            self._check_state(mtl)
        whole = state_dict if mtl is None else {**state_dict, 'mtl': mtl}
        warn_of_settings(whole, self)
        told = {'param_groups': [dict.fromkeys(group) for group in whole['param_groups']], 'mtl': mtl}
        self._resumed = (told, describe_plan(runner_around()))
        if mtl is None:
            super().load_state_dict(state_dict)
            return
        # An optimizer that is spread strikes out what other ranks hold.
        super().load_state_dict({**state_dict, 'state': dict(state_dict['state'])})
        # The Runner maps checkpoints to the training device; generator states live on the CPU.
        self.generator.set_state(mtl['generator'].cpu().to(torch.uint8))
        self.seed = mtl.get('settings', {}).get('seed', self.seed)  # its stream goes on, so that it is what counts
        self.precision.load_state_dict(mtl['precision'])
        self.guard.load_state_dict(mtl['nonfinite'])
        self.zero_rows = {task: int(count) for task, count in mtl.get('zero_rows', {}).items()}
        if self.task_names is None and self.names.saved is None:
            return
        # The Runner restores the optimizer before the wrapper meets the model, which may be what knows the tasks.
        self._strategy_to_load = mtl['strategy']
        self.names.when_known(self._load_strategy, 'the state of optim_wrapper in the checkpoint')

    def _compare_plans(self) -> None:
        """Once everything is loaded: warn if the run goes by other schedules than its config says."""
        if self._resumed is not None:
            (state, configured), self._resumed = self._resumed, None
            warn_of_plan(state, configured, describe_plan(runner_around()))

    def _load_strategy(self, tasks: Sequence[str]) -> None:
        if self._strategy_to_load is not None:
            state, self._strategy_to_load = self._strategy_to_load, None
            self.load_strategy_state(state)

    def _check_state(self, mtl: dict[str, Any]) -> None:
        saved = mtl['method']
        former = mtl.get('version', 1) < 2
        if saved != (self.former_method_name if former else self.method_name):
            key = key_of_former(saved) if former else saved
            known = any(row.key == key for row in list_methods())
            way = f'--method {key}' if known else 'the optim_wrapper of its config'
            raise UserError(
                f"the checkpoint was trained with method '{key}', this run uses '{self.method_name}'; resuming would "
                f'mix them. Go on with {way}, or start a new run from its weights: load_from=CHECKPOINT '
                'without --resume'
            )
        self.names.resume(mtl['tasks'])
