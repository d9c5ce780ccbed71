"""What a loss weighting has to know about the run around it, also in Runners of other projects."""

import inspect
import logging
import math
import sys
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, FlexibleRunner, Runner
from torch import nn

from mtl_plugins.errors import UserError
from mtl_plugins.methods.weighting import Weighting

from .optimizers.spread_state import is_spread
from .parameter_settings import warn_of_unused_settings
from .step.guards import refuse_several_wrappers


def runner_around() -> Runner | FlexibleRunner | None:
    """The Runner that this call happens in, None without one.

    MMEngine hands its Runner to hooks, not to optimizer wrappers. That the wrapper knows it nevertheless is what makes
    ``custom_imports`` and ``optim_wrapper.type`` enough, without a hook of ours.
    """
    frame = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get('self')
        if isinstance(caller, Runner | FlexibleRunner):
            return caller
        frame = frame.f_back
    return None


class AskedByRunners(OptimWrapper):
    """An optimizer wrapper that uses the first look a Runner has at it to refuse what would never call it properly."""

    _attached: nn.Module | None = None

    @property
    def _accumulative_counts(self) -> int:
        """Batches per step: all that a FlexibleRunner looks at before it waits for the first batch."""
        if self._attached is None:
            check_data()
        return self._counts

    @_accumulative_counts.setter
    def _accumulative_counts(self, counts: int) -> None:
        check_data()  # at one that a Runner builds among several, it looks no more
        self._counts = counts

    def get_lr(self) -> dict[str, list[float]]:
        """As MMEngine's: all that a Runner looks at, before the first step, of one wrapper among several."""
        runner = runner_around() if self._attached is None else None
        if runner is not None:
            refuse_several_wrappers(runner.optim_wrapper, runner.model)
        return super().get_lr()


def weightings_of(wrapper: OptimWrapper) -> list[Weighting]:
    """The loss weightings of all strategies of an optimizer wrapper; none for a wrapper of MMEngine."""
    found = [getattr(strategy, 'weighting', None) for strategy in getattr(wrapper, 'strategies', ())]
    return [weighting for weighting in found if weighting is not None]


def prepare_wrapper(wrapper: OptimWrapper, model: nn.Module) -> None:
    """Tell an optimizer wrapper of the Runner around it, if any, and warn of its settings that change nothing.

    Args:
        wrapper: The optimizer wrapper.
        model: The model itself, without what parallelises it.

    Raises:
        ValueError: See :func:`prepare_weightings`; if no hook gathers an optimizer state that is spread over ranks; for
            an optimizer that needs a closure, and for data that give no batch.
    """
    _check_optimizer(wrapper, model)
    runner = runner_around()
    if runner is not None:
        check_data()
        prepare_weightings(wrapper, runner)
        wrapper.saves_are_announced = any(getattr(hook, 'gathers_state', False) for hook in runner.hooks)
        if is_spread(wrapper.optimizer) and get_world_size() > 1 and not wrapper.saves_are_announced:
            raise UserError(
                f'the state of {type(wrapper.optimizer).__name__} is spread over the processes, and nobody gathers it '
                "before a checkpoint is saved: add dict(type='mtl_plugins.RNGStateHook') to custom_hooks"
            )
        warn_of_unused_settings(runner.cfg.get('optim_wrapper'), model, wrapper.optimizer)


def _check_optimizer(wrapper: OptimWrapper, model: nn.Module) -> None:
    optimizer = wrapper.optimizer
    closure = inspect.signature(optimizer.step).parameters.get('closure')
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UserError(
            f'{type(optimizer).__name__} evaluates the loss several times within its step, which no multi-task step '
            'can offer: use another optimizer'
        )
    trainable = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    if not any(id(parameter) in trainable for group in optimizer.param_groups for parameter in group['params']):
        print_log(
            f'no parameter of the optimizer is a trainable parameter of {type(model).__name__}, so that training '
            'leaves the model as it is: is all of it frozen, or was the optimizer made for another model?',
            'current',
            logging.WARNING,
        )


def check_data() -> None:
    """Refuse data that give no batch, which an endless sampler would wait for, and epochs that have no end.

    Raises:
        UserError: If that is so in the Runner around this call, as far as it is known.
    """
    loop = getattr(runner_around(), '_train_loop', None)
    loader = getattr(loop, 'dataloader', None)
    sampler = getattr(getattr(loader, 'batch_sampler', None), 'sampler', None)
    if isinstance(loop, EpochBasedTrainLoop) and getattr(sampler, 'endless', isinstance(sampler, InfiniteSampler)):
        raise UserError(
            f'train_dataloader.sampler: {type(sampler).__name__} has no end, so that the first epoch of '
            f'{type(loop).__name__} would not end either: count iterations '
            "(train_cfg=dict(type='IterBasedTrainLoop', max_iters=...)), or use sampler=dict(type='DefaultSampler')"
        )
    images = length(getattr(loader, 'dataset', None))
    if 0 in (images, length(loader)):
        raise UserError(
            f'train_dataloader gives no batch: its dataset has {images} images, at a batch size of '
            f'{loader.batch_size} with drop_last={loader.drop_last}'
        )


def warn_of_lost_batches(iteration: int, counts: int) -> None:
    """Say that a resumed run begins between two micro-batches, since what came before them is in no checkpoint."""
    lost = iteration % counts
    if lost:
        batches = 'batch before it is' if lost == 1 else f'{lost} batches before it are'
        print_log(
            f'resumed at iteration {iteration}, between two steps of accumulative_counts={counts}: the {batches} lost, '
            f'and the next step is made of {counts - lost} alone. Save at multiples of {counts} iterations to resume '
            'exactly',
            'current',
            logging.WARNING,
        )


def prepare_weightings(wrapper: OptimWrapper, runner: Runner | FlexibleRunner) -> None:
    """Tell the weightings how many steps an epoch takes: ceil(images / (batch size * processes)) over accumulation.

    Args:
        wrapper: The optimizer wrapper.
        runner: The Runner whose training begins.

    Raises:
        ValueError: If the weighting waits for metrics that nobody brings, so that its weights would stay equal.
    """
    for weighting in weightings_of(wrapper):
        _prepare(weighting, runner, getattr(wrapper, '_accumulative_counts', 1))


def _prepare(weighting: Weighting, runner: Runner | FlexibleRunner, counts: int) -> None:
    if weighting.needs_kpis and not any(getattr(h, 'brings_kpis', False) for h in runner.hooks):
        raise UserError(
            f"{type(weighting).__name__} with kpi='metric' follows metrics, but nobody brings them: add "
            "dict(type='mtl_plugins.TaskKPIHook', kpis=dict(<task>='<task>/<metric in percent>', ...)) to "
            "custom_hooks, or use weighting.kpi='loss'"
        )
    images = length(getattr(runner.train_dataloader, 'dataset', None))
    if images is not None:  # a weighting that needs the number says so itself
        batches = math.ceil(images / ((batch_size(runner.train_dataloader) or 1) * get_world_size()))
        weighting.set_epoch_length(max(1, math.ceil(batches / counts)))


def length(data: Any) -> int | None:
    """Number of entries; None for a stream, and for what has none."""
    try:
        return len(data)
    except TypeError:
        return None


def batch_size(loader: Any) -> int | None:
    """Samples in a batch of a data loader, by itself or by its sampler; None if neither tells."""
    return getattr(loader, 'batch_size', None) or getattr(getattr(loader, 'batch_sampler', None), 'batch_size', None)
