"""The validation that a stop took away."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import EpochBasedTrainLoop

from mtl_plugins.registry import HOOKS

from .metrics_file import FILE_NAME, MetricsFileHook, read_metrics


@HOOKS.register_module()
class DueValidationHook(Hook):
    """After a resume, makes up the validation that was due at the checkpoint; :class:`SafeCheckpointHook` adds it.

    A checkpoint is saved before the validation of the same iteration, so a signal or a kill in between would lose that
    validation, and with it perhaps the best model. With :class:`MetricsFileHook` only a validation without an entry is
    made up, and without it every one that was due. A scheduler that follows the metrics needs it in any case, and so
    does ``save_best`` if the model would be the best, since the checkpoint does not know of it.
    """

    priority = 'LOWEST'  # when everything else is ready for training

    def before_train(self, runner: Any) -> None:
        """Validate if that is due."""
        if runner._resume and runner.val_loop is not None and self._is_due(runner.train_loop):
            decision = [not self._is_done(runner)]
            broadcast_object_list(decision)  # the file may be on the disk of rank 0 alone
            if decision[0]:
                runner.logger.info(f'The validation after iteration {runner.iter} is made up.')
                runner.val_loop.run()

    @staticmethod
    def _is_due(loop: Any) -> bool:
        done, end = loop.iter, loop.max_iters
        if isinstance(loop, EpochBasedTrainLoop):
            if loop.iter != loop.epoch * len(loop.dataloader):
                return False  # in the middle of an epoch
            done, end = loop.epoch, loop.max_epochs
        if hasattr(loop, '_decide_current_val_interval'):
            loop._decide_current_val_interval()
        interval, begin = getattr(loop, 'val_interval', 0), getattr(loop, 'val_begin', 1)
        return bool(interval) and done >= max(begin, 1) and (done % interval == 0 or done == end)

    @staticmethod
    def _is_done(runner: Any) -> bool:
        schedulers = runner.param_schedulers
        if isinstance(schedulers, dict):
            schedulers = [scheduler for group in schedulers.values() for scheduler in group]
        if any(getattr(scheduler, 'need_val_args', False) for scheduler in schedulers or ()):
            return False
        if not any(isinstance(hook, MetricsFileHook) for hook in runner.hooks):
            return False
        found = {entry['iter']: entry['metrics'] for entry in read_metrics(Path(runner.work_dir) / FILE_NAME)}
        return runner.iter in found and not _lacks_best(runner, found[runner.iter])


def _lacks_best(runner: Any, metrics: Mapping[str, Any]) -> bool:
    """Whether a validation whose metrics are written was killed before its model was saved as the best."""
    for hook in runner.hooks:
        keys = hook.key_indicators if isinstance(hook, CheckpointHook) and hook.save_best else ()
        for key in keys:
            known = runner.message_hub.runtime_info.get('best_score' if len(keys) == 1 else f'best_score_{key}')
            value = metrics.get(key)
            if key == 'auto' or (value is not None and (known is None or hook.is_better_than[key](value, known))):
                return True
    return False
