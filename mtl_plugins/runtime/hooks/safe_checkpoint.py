"""Periodic checkpoints that keep the last good file, load safely, and refuse a resume that would not be exact."""

import contextlib
import inspect
import math
from collections import deque
from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process, master_only
from mmengine.hooks import CheckpointHook

from mtl_plugins.errors import UserError, UserTypeError
from mtl_plugins.methods.naming import near_matches
from mtl_plugins.registry import HOOKS
from mtl_plugins.runtime.checkpoints import (
    BACKEND_NAME,
    check_resume_compatibility,
    describe_run,
    from_plain,
    write_atomically,
)
from mtl_plugins.runtime.checkpoints.best_files import DeferredRemoval, forget_best, settle_best
from mtl_plugins.runtime.checkpoints.newest import POINTER, refuse_fresh_start, warn_of_fresh_start
from mtl_plugins.runtime.checkpoints.resume_guard import checkpoint_differences, describe_settings
from mtl_plugins.runtime.checkpoints.resume_schedules import (
    apply_length_and_schedules,
    describe_length,
    describe_schedules,
)
from mtl_plugins.runtime.work_folder import claim
from mtl_plugins.utils.files import remove_leftovers

from .due_validation import DueValidationHook
from .outputs import BEST, STATE, OutputsHook, going_on_without, outputs_of, register_once
from .plain_state import PlainStateHook

META_KEY = 'mtl'
SETTINGS_KEY = 'mtl_settings'


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` that never leaves a run without a good checkpoint.

    * Files are written atomically (backend ``mtl_atomic``), the ``last_checkpoint`` pointer too.
    * What ``max_keep_ckpts`` and ``save_best`` make superfluous is removed after the new file is complete, not before.
    * A failed save (disk full) is reported; training goes on, the bookkeeping stays at the last good file. One more
      attempt is made at the end of training, and its failure is an error. So is a best model that could not be saved,
      unless a later one was at least as good.
    * After a resume, a validation that was due at the checkpoint and did not come about is made up
      (:class:`DueValidationHook`), and best models that a killed run left beside the known one are compared with it:
      the better one stays.
    * No second process trains in the same folder meanwhile; see :func:`mtl_plugins.runtime.work_folder.claim`.
    * Files hold plain data only, so ``torch.load(weights_only=True)`` reads them.
    * Resuming with other tasks, method, process count, batch size or settings of the optimizer is refused; the length
      of the run and its schedules may be others and are those of the present config.

    Args:
        strict: Raise at the first failed save instead of going on.
        **kwargs: As for :class:`mmengine.hooks.CheckpointHook`.

    Example:
        >>> from mtl_plugins.registry import HOOKS
        >>> HOOKS.build(dict(type='mtl_plugins.SafeCheckpointHook', interval=500)).interval
        500
    """

    def __init__(self, *args: Any, strict: bool = False, **kwargs: Any) -> None:
        if kwargs.get('file_client_args') is None and kwargs.get('backend_args') is None:
            out_dir = kwargs.get('out_dir')
            if out_dir is None or '://' not in str(out_dir):
                kwargs['backend_args'] = dict(backend=BACKEND_NAME)
        try:
            super().__init__(*args, **kwargs)
        except (KeyError, ValueError) as error:  # which MMEngine raises about a metric or a rule that it does not know
            raise UserError(f"CheckpointHook: {error.args[0]} ('greater' or 'less')") from error
        for name in self.args:  # MMEngine's hook takes them, and its first save ends the run
            known = inspect.signature(CheckpointHook).parameters
            raise UserTypeError(f"CheckpointHook has no argument '{name}'; {near_matches(name, known)}")
        self.strict = strict
        self._missed_best: tuple[int, dict[str, Any]] | None = None
        self._without_best: set[str] = set()
        self._unsettled = False
        self._claims = contextlib.ExitStack()
        self._outdated: list[str] = []
        self._left_behind: list[str] = []
        self._built_with: dict[str, Any] | None = None
        self._best_by = [list(self.save_best or []), list(getattr(self, 'rules', None) or [])]

    def before_run(self, runner: Any) -> None:
        """Claim the folder for a training, and register the hooks that come after all others.

        Raises:
            FolderInUseError: If another process trains in the folder.
        """
        if runner._train_loop is not None and not isinstance(runner._train_loop, Mapping) and is_main_process():
            self._claims.enter_context(claim(runner.work_dir))
        for kind in (PlainStateHook, OutputsHook, DueValidationHook):
            register_once(runner, kind)
        self._settings(runner)

    def before_train(self, runner: Any) -> None:
        """Prepare the folder, and remove what a killed run left in it.

        Raises:
            ValueError: If checkpoints would fall between two optimizer steps of gradient accumulation.
            NoLoadableCheckpointError: If a resume found nothing to load although the folder holds checkpoints.
        """
        self.check_interval(runner.optim_wrapper)
        if runner._resume and not runner._has_loaded:
            refuse_fresh_start(runner.work_dir)
        elif not runner._resume and is_main_process():
            warn_of_fresh_start(runner.work_dir)
        super().before_train(runner)
        self._missed_best = None
        if '://' in str(self.out_dir):
            return
        step = runner.epoch if self.by_epoch else runner.iter
        resumed = Path(str(self.out_dir), self.filename_tmpl.format(step))
        if runner._resume and runner._load_from in (None, str(resumed)) and resumed.is_file():
            self.last_ckpt = str(resumed)
            self._unsettled = bool(self.save_best)
            self._settle_best(runner)
        if not is_main_process():
            return
        self._claims.enter_context(claim(self.out_dir))
        for folder in {str(self.out_dir), runner.work_dir}:
            for path in remove_leftovers(folder, every=True):
                runner.logger.info(f'Removed {path}, which a killed run left unfinished.')
        for name in self._left_behind:
            path = Path(self.out_dir) / name
            if path.is_file():
                path.unlink()
                runner.logger.info(f'Removed {path}, which a killed run had replaced but not removed.')
        self._left_behind = []

    def check_interval(self, optim_wrapper: Any) -> None:
        """Refuse checkpoints between two optimizer steps of gradient accumulation.

        Raises:
            UserError: See above.
        """
        counts = getattr(optim_wrapper, '_accumulative_counts', 1)
        if not self.by_epoch and self.interval > 0 and self.interval % counts:
            raise UserError(
                f'checkpoint.interval={self.interval} is no multiple of optim_wrapper.accumulative_counts={counts}: a '
                'checkpoint between two optimizer steps would lose the micro-batches in between'
            )

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Store what resuming compares, and which files the new one replaces."""
        names = [Path(path).name for path in self._outdated]
        checkpoint['meta'][META_KEY] = dict(describe_run(runner), replaces=names)
        checkpoint['meta'][SETTINGS_KEY] = dict(self._settings(runner), best_by=self._best_by)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Bring the message hub back to its own types; when resuming, check that this is the same kind of run.

        Raises:
            ResumeMismatchError: If it is not.
        """
        for key, value in checkpoint.items():
            checkpoint[key] = from_plain(value)
        meta = checkpoint.get('meta', {})
        if not runner._resume or not _is_built(runner):
            return
        run, saved = (meta.get(key) if isinstance(meta.get(key), dict) else {} for key in (META_KEY, SETTINGS_KEY))
        check_resume_compatibility(
            {**run, **saved, 'seed': meta.get('seed')},
            {**describe_run(runner), **self._settings(runner)},
            further=checkpoint_differences(runner, checkpoint, saved.get('optimizers')),
        )
        apply_length_and_schedules(runner, checkpoint, saved)
        if saved.get('best_by', self._best_by) != self._best_by:
            forget_best(runner, checkpoint)
        self._left_behind = [Path(name).name for name in run.get('replaces', [])]

    def _settings(self, runner: Any) -> dict[str, Any]:
        """What the run was built with, taken down before training or a checkpoint changes it."""
        if self._built_with is None and _is_built(runner):
            self._built_with = dict(
                describe_settings(runner), schedules=describe_schedules(runner), **describe_length(runner)
            )
        return self._built_with or {}

    def after_train(self, runner: Any) -> None:
        """Try once more what could not be saved; :class:`OutputsHook` raises if that fails again."""
        lost = outputs_of(runner).lost
        if BEST in lost and self._missed_best is not None and self._missed_best[0] == runner.iter:
            self._save_best_checkpoint(runner, self._missed_best[1])
        if STATE in lost:
            self._save_checkpoint_with_step(
                runner, runner.epoch if self.by_epoch else runner.iter, dict(epoch=runner.epoch, iter=runner.iter)
            )
        with going_on_without(runner, 'the published model'):
            super().after_train(runner)

    def after_run(self, runner: Any) -> None:
        """Free the folder."""
        self._claims.close()

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        # MMEngine's version with another order: save, point to the file, and only then remove old ones.
        name = self.filename_tmpl.format(step)
        with self._reporting(runner, STATE) as remove_later:
            if self.max_keep_ckpts > 0:
                steps = [kept for kept in self.keep_ckpt_ids if kept != step] + [step]
                for old in steps[: -self.max_keep_ckpts]:
                    remove_later(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old)))
                self.keep_ckpt_ids = deque(steps[-self.max_keep_ckpts :], self.max_keep_ckpts)
                runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
            self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
            runner.message_hub.update_info('last_ckpt', self.last_ckpt)
            runner.save_checkpoint(
                self.out_dir,
                name,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            self._point_to(runner, str(self.last_ckpt))

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        if not self.save_best:
            return
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        absent = [key for key in self.key_indicators if key not in metrics]
        if absent:
            step = runner.epoch if self.by_epoch else runner.iter
            self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=runner.iter))
            raise UserError(
                f'save_best: the validation measures no {absent[0]!r}, but {", ".join(metrics)}. Change '
                f'default_hooks.checkpoint.save_best; --resume goes on from here, {self.last_ckpt}'
            )
        for key in self.key_indicators:
            if isinstance(metrics[key], Real) and math.isnan(metrics[key]) and key not in self._without_best:
                self._without_best.add(key)
                runner.logger.warning(
                    f'save_best: {key} is nan at iteration {runner.iter}, which is never the best. Do the validation '
                    'data have labels for it, and the predictions numbers?'
                )
        self._settle_best(runner)
        lost = outputs_of(runner).lost
        missed, reason = self._missed_best, lost.get(BEST)
        with self._reporting(runner, BEST) as remove_later:
            backend, self.file_backend = self.file_backend, DeferredRemoval(self.file_backend, remove_later)
            try:
                super()._save_best_checkpoint(runner, metrics)
            finally:
                self.file_backend = backend
        better = missed is None or self._as_good(metrics, missed[1])
        if BEST in lost and better:
            self._missed_best = (runner.iter, metrics)
        elif better:
            self._missed_best = None
        elif reason is not None:
            lost[BEST] = reason  # what could be saved now is not as good as what could not be saved then

    def _as_good(self, metrics: dict, others: dict) -> bool:
        pairs = ((key, metrics.get(key), others.get(key)) for key in self.key_indicators)
        return all(b is None or (a is not None and (a == b or self.is_better_than[key](a, b))) for key, a, b in pairs)

    def _settle_best(self, runner: Any) -> None:
        """After a resume: of the best models in the folder, which a killed run may have left, keep the best."""
        if self._unsettled and 'auto' not in self.key_indicators:  # 'auto' is known after a validation
            self._unsettled = False
            for path in settle_best(self, runner):
                self._remove(runner, [path])

    @contextlib.contextmanager
    def _reporting(self, runner: Any, what: str) -> Iterator[Any]:
        """Around one save: on success remove what it replaces, on failure undo the bookkeeping and report.

        Only the first process writes, so it tells the others whether it could.

        Yields:
            Callable: Takes the path of a file to be removed after the save.
        """
        outer, self._outdated = self._outdated, list(self._outdated)
        own = {name: value for name, value in vars(self).items() if name in _BOOKKEEPING}
        own = {name: value.copy() if hasattr(value, 'copy') else value for name, value in own.items()}
        info = runner.message_hub.runtime_info
        infos = _of_checkpoints(info)
        lost = outputs_of(runner).lost
        failure: list[OSError | None] = [None]
        try:
            try:
                yield self._outdated.append
            except OSError as error:
                failure = [error]
            broadcast_object_list(failure)
            error = failure[0]
            if error is None:
                if is_main_process():
                    self._remove(runner, self._outdated)
                lost.pop(what, None)
                return
            vars(self).update(own)
            for key in _of_checkpoints(info):
                del info[key]
            info.update(infos)
            lost[what] = error
            if self.strict:
                raise error
            runner.logger.error(
                f'NO CHECKPOINT WAS SAVED at iteration {runner.iter}: {error}. The last good one is '
                f'{self.last_ckpt or "none of this run"}; training goes on and the next save is tried as planned '
                '(checkpoint=dict(strict=True) stops instead).'
            )
        finally:
            self._outdated = outer

    def _remove(self, runner: Any, paths: list[str]) -> None:
        for path in paths:
            try:
                if self.file_backend.isfile(path):
                    self.file_backend.remove(path)
                elif self.file_backend.isdir(path):
                    self.file_backend.rmtree(path)
            except OSError as error:
                runner.logger.warning(f'The outdated checkpoint {path} could not be removed: {error}')

    @master_only
    def _point_to(self, runner: Any, checkpoint: str) -> None:
        try:
            write_atomically(checkpoint.encode(), Path(runner.work_dir) / POINTER)
        except OSError as error:
            # The checkpoint itself is complete, and resuming looks for files, so this is no failed save.
            runner.logger.warning(f'The pointer to the last checkpoint was not updated: {error}')


def _is_built(runner: Any) -> bool:
    """Whether the parts for training are built, which they are not in a test run."""
    return hasattr(runner.optim_wrapper, 'update_params')


_BOOKKEEPING = ('keep_ckpt_ids', 'last_ckpt', 'best_ckpt_path', 'best_ckpt_path_dict')


def _of_checkpoints(info: Mapping[str, Any]) -> dict[str, Any]:
    """What a message hub holds of the bookkeeping."""
    return {k: v for k, v in info.items() if k.startswith(('keep_ckpt_ids', 'last_ckpt', 'best_ckpt', 'best_score'))}
