"""Says what a run that starts from a checkpoint took over from it."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Literal

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mtl_plugins.registry import HOOKS
from mtl_plugins.runtime.checkpoints.fitting import (
    CheckpointMismatchError,
    WeightFit,
    describe_fit,
    load_weights,
    mismatch_message,
    other_shapes,
    tasks_without_weights,
    weights_of,
)
from mtl_plugins.utils.argument_types import Checked
from mtl_plugins.utils.init_files import init_files_fit

OPTION = "default_hooks.load_report.mismatch='skip' (--cfg-options default_hooks.load_report.mismatch=skip)"


@HOOKS.register_module()
class LoadReportHook(Checked, Hook):
    """Fits a checkpoint named by ``load_from`` to the model, and logs by task what was loaded and what was not.

    A task that the checkpoint lacks starts from random weights (evaluation refuses that), heads of tasks that the model
    lacks are ignored: that is how tasks are added and dropped in fine-tuning. Tensors of another shape are refused,
    since a wrong model config looks the same as a wish for another number of classes.

    Resuming is not touched: there the tasks must be the same.

    Args:
        mismatch: What to do about tensors of another shape: ``'raise'``, or ``'skip'`` to leave them out.

    Raises:
        ValueError: If ``mismatch`` is neither.
    """

    # After hooks that choose or convert what the checkpoint holds, such as EMAHook.
    priority = 'LOWEST'

    def __init__(self, mismatch: Literal['raise', 'skip'] = 'raise') -> None:
        self.mismatch = mismatch
        self._init_files = ExitStack()

    def before_run(self, runner: Any) -> None:
        """Watch the files that parts of the model are to begin with, see :func:`init_files_fit`; they come next."""
        if not runner._resume and hasattr(runner.optim_wrapper, 'update_params'):  # training, from the beginning
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            self._init_files.enter_context(init_files_fit(model))

    def before_train(self, runner: Any) -> None:
        """All files are loaded."""
        self._init_files.close()

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Load the weights, and leave to MMEngine, which loads next, exactly what the model has then.

        Raises:
            CheckpointMismatchError: If shapes differ and ``mismatch`` is ``'raise'``, if nothing fits at all, or if a
                task would be evaluated with random weights.
        """
        self._init_files.close()
        if runner._resume:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        source = str(runner._load_from)
        fit = self.fit(model, checkpoint, source)
        self._report(runner, model, checkpoint, fit, source)
        tasks = _tasks(runner, model)
        untrained = tasks_without_weights(fit, tasks)
        if untrained and not hasattr(runner.optim_wrapper, 'update_params'):  # no training follows
            raise CheckpointMismatchError(
                f'{source} has no weights for {", ".join(untrained)}: random weights would be evaluated. Take a '
                'checkpoint that was trained on these tasks, or leave them out (--tasks '
                f'{",".join(task for task in tasks if task not in untrained)})'
            )
        if 'state_dict' not in checkpoint:
            checkpoint.clear()
        checkpoint['state_dict'] = model.state_dict()

    def fit(self, model: Any, checkpoint: Mapping[str, Any], source: str) -> WeightFit:
        """Load all weights that fit.

        Raises:
            CheckpointMismatchError: If shapes differ and ``mismatch`` is ``'raise'``, or nothing fits at all.
        """
        saved = weights_of(checkpoint)
        shapes = other_shapes(saved, model.state_dict())
        if shapes and self.mismatch == 'raise':
            raise CheckpointMismatchError(mismatch_message(shapes, source, OPTION))
        fit = load_weights(model, saved)
        if not fit.loaded:
            raise CheckpointMismatchError(
                f'load_from={source}: none of its {len(saved)} tensors fits the model (it has {_example(saved)}, the '
                f'model {_example(model.state_dict())}); is it a checkpoint of another model?'
            )
        return fit

    def _report(self, runner: Any, model: Any, checkpoint: Mapping, fit: WeightFit, source: str) -> None:
        if not is_main_process():
            return
        lines = describe_fit(fit, _tasks(runner, model), _former_tasks(checkpoint))
        complete = not fit.new and not fit.mismatched
        text = '\n  '.join([f'Weights from {source}: {lines[0]}', *lines[1:]])
        runner.logger.log(logging.INFO if complete else logging.WARNING, text)


def _tasks(runner: Any, model: Any) -> tuple[str, ...]:
    """The tasks of the model itself, or as the optimizer wrapper knows them."""
    return tuple(getattr(model, 'tasks', None) or getattr(runner.optim_wrapper, 'task_names', None) or ())


def _former_tasks(checkpoint: Mapping[str, Any]) -> tuple[str, ...]:
    """The tasks that a checkpoint of ours was trained on."""
    facts = checkpoint.get('meta', {}).get('mtl') if isinstance(checkpoint.get('meta'), Mapping) else None
    return tuple((facts or {}).get('tasks') or ())


def _example(weights: Mapping[str, Any]) -> str:
    return next(iter(weights), 'no tensor')
