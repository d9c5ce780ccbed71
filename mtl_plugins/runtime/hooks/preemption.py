"""Leaving in good order when the scheduler wants the machine back."""

from __future__ import annotations

import atexit
import gc
import mmap
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import CheckpointHook, Hook

from mtl_plugins.errors import UserError
from mtl_plugins.registry import HOOKS
from mtl_plugins.runtime.signals import EXIT_PREEMPTED, TrainingPreempted, leaving, parent_is_gone
from mtl_plugins.utils.argument_types import Checked, Range


@HOOKS.register_module()
class PreemptionHook(Checked, Hook):
    """On SIGTERM, SIGUSR1 or SIGHUP finishes the running iteration, saves a checkpoint and ends the program.

    The exit code is 75, ``EX_TEMPFAIL`` of ``sysexits.h``: "failed for now, try again later". A job script can requeue
    on it. 143, what a shell reports for a process killed by SIGTERM, would not tell whether anything was saved.
    (``torchrun`` itself exits with 1 when a worker ends with an error code.) Epoch-based runs restart their epoch.

    One process's signal stops all of them after the same iteration: the processes agree by a maximum over one integer
    per iteration. During validation a signal takes effect at once if the present iteration is already saved, otherwise
    at the end of the validation. SIGINT (Ctrl-C) is left alone. The former handlers come back after training. If the
    state cannot be saved, the run ends with that error instead.

    A training that ``compare``, ``baselines`` or ``reproduce`` started stops in the same way (as if by SIGHUP) when
    that command has died.

    Slurm gives notice with ``#SBATCH --signal=USR1@120``; Kubernetes and ``torchrun`` send SIGTERM and allow 30 s.
    SIGHUP comes when the terminal closes; under ``nohup``, which ignores it, training goes on.

    Args:
        signals: Names of the signals that mean "stop".
        exit_code: Exit code of the program, 1 to 255.
    """

    priority = 'LOWEST'  # after CheckpointHook, so that a regular save of the same iteration is not repeated

    def __init__(
        self,
        signals: Sequence[str] = ('SIGTERM', 'SIGUSR1', 'SIGHUP'),
        exit_code: Annotated[int, Range(1, 255)] = EXIT_PREEMPTED,
    ) -> None:
        unknown = [name for name in signals if not hasattr(signal, name)]
        if unknown:
            raise UserError(f"signals must be names such as 'SIGTERM', got {unknown}")
        self.signals = tuple(signals)
        self.exit_code = exit_code
        self._former: dict[int, Any] = {}
        self._received = 0
        self._agreed: tuple[int, int] = (-1, 0)
        self._training = False
        self._loop_code: Any = None
        self._process = 0
        self._ending: mmap.mmap | None = None

    def before_train(self, runner: Any) -> None:
        """Install the handlers."""
        self.restore()
        self._received, self._agreed, self._training = 0, (-1, 0), True
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning('PreemptionHook does nothing: only the main thread can handle signals.')
            return
        if self._checkpoint_hook(runner) is None:
            runner.logger.warning('PreemptionHook found no CheckpointHook: on a signal nothing will be saved.')
        self._loop_code = type(runner.train_loop).run.__code__
        self._process = os.getpid()
        numbers = [getattr(signal, name) for name in self.signals]
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            numbers = [number for number in numbers if number != signal.SIGHUP]
        self._shield_workers(runner, numbers)
        for number in {*numbers, *leaving()}:
            handler = self._handle if number in numbers else signal.SIG_DFL
            self._former[number] = signal.signal(number, handler)
        atexit.register(self.restore)
        close_gloo_at_exit()

    def save_requested(self, runner: Any) -> bool:
        """Whether the run stops after the running iteration; a collective call, made once per iteration.

        With gradient accumulation it stops after the next step of the optimizer: a checkpoint does not hold the
        micro-batches that wait for it.
        """
        if self._agreed[0] != runner.iter:
            self._agreed = (runner.iter, self._agree())
        return self._agreed[1] > 0 and getattr(runner.optim_wrapper, 'at_step_boundary', True)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Save and stop if any process got a signal."""
        if self.save_requested(runner):
            self._stop(runner, runner.iter + 1)

    def before_val(self, runner: Any) -> None:
        """Stop before a validation begins."""
        self._stop_in_validation(runner)

    def after_val(self, runner: Any) -> None:
        """Stop after a validation."""
        self._stop_in_validation(runner)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stop in the middle of a validation if there is nothing left to save."""
        self._notice()
        if self._received and self._training and self._saved(runner, runner.iter):
            self._leave(runner, self._received)

    def after_train(self, runner: Any) -> None:
        """Bring the former handlers back."""
        self._training = False
        self.restore()

    after_run = after_train

    def restore(self) -> None:
        """Bring the former handlers back; from now on data workers end at a signal again."""
        if self._ending is not None:
            self._ending[0] = 1
        for number, former in self._former.items():
            # None: a handler that was not installed from Python, which cannot be reinstalled from here.
            signal.signal(number, signal.SIG_DFL if former is None else former)
        self._former = {}
        atexit.unregister(self.restore)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        while frame is not None and frame.f_code is not self._loop_code:
            frame = frame.f_back
        if frame is None or os.getpid() != self._process:
            # Training ended by an exception, so nobody would look at the flag any more; or this is a forked process.
            self.restore()
            os.kill(os.getpid(), number)
            return
        self._received = number

    def _shield_workers(self, runner: Any, numbers: list[int]) -> None:
        """Let data workers survive the signals: schedulers send them to whole process groups.

        A worker that dies takes the running iteration with it. This needs memory that forked workers share; where
        workers are not forked, they stay as they are.
        """
        self._ending = None
        if multiprocessing.get_start_method() != 'fork':
            return
        self._ending = mmap.mmap(-1, 1)
        for loader in [runner.train_dataloader, *([] if runner.val_loop is None else [runner.val_dataloader])]:
            if loader.num_workers > 0 and loader.multiprocessing_context is None:
                former = loader.worker_init_fn
                former = former.former if isinstance(former, _WorkerShield) else former
                loader.worker_init_fn = _WorkerShield(former, numbers, self._ending)

    def _notice(self) -> None:
        if not self._received and parent_is_gone():
            self._received = signal.SIGHUP

    def _agree(self) -> int:
        self._notice()
        flag = torch.tensor([self._received], dtype=torch.int32)
        all_reduce(flag, 'max')
        return int(flag)

    def _stop_in_validation(self, runner: Any) -> None:
        if self._training:
            number = self._agree()
            if number:
                self._agreed = (runner.iter, number)
                self._stop(runner, runner.iter)

    def _stop(self, runner: Any, iterations: int) -> None:
        """Save the state after ``iterations`` iterations unless that is done, and leave."""
        hook = self._checkpoint_hook(runner)
        if hook is not None and hook.by_epoch:
            # MMEngine resumes epoch loops at the start of an epoch, and for that the last file is the exact one.
            runner.logger.warning(f'Epoch {runner.epoch + 1} is cut off; resuming starts it again.')
        elif hook is not None and not self._saved(runner, iterations):
            hook._save_checkpoint_with_step(runner, iterations, dict(epoch=runner.epoch, iter=iterations))
        self._leave(runner, self._agreed[1])

    def _leave(self, runner: Any, number: int) -> None:
        hook = self._checkpoint_hook(runner)
        checkpoint = None if hook is None or hook.last_ckpt is None else str(hook.last_ckpt)
        preempted = TrainingPreempted(self.exit_code, signal.Signals(number).name, checkpoint)
        runner.logger.warning(str(preempted))
        self.restore()
        runner.call_hook('after_run')  # lets the visualizer, the progress bar and so on finish
        raise preempted

    def _saved(self, runner: Any, iterations: int) -> bool:
        hook = self._checkpoint_hook(runner)
        if hook is None or hook.by_epoch or hook.last_ckpt is None:
            return False
        return Path(str(hook.last_ckpt)).name == hook.filename_tmpl.format(iterations)

    @staticmethod
    def _checkpoint_hook(runner: Any) -> CheckpointHook | None:
        return next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)


def close_gloo_at_exit() -> None:
    """End a gloo process group in order when the program ends, whatever it ends by; may be called again.

    Otherwise DDP, which the garbage collector has not come to yet, keeps the group's threads to the very end, and the
    program aborts with exit code 134 in about one of ten runs (seen with torch 2.15).
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        atexit.unregister(_close_gloo)
        atexit.register(_close_gloo)


def _close_gloo() -> None:
    # NCCL groups are left alone: ending them waits for processes that may be gone.
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == 'gloo':
        gc.collect()
        torch.distributed.destroy_process_group()


class _WorkerShield:
    """A ``worker_init_fn`` that makes a data worker ignore signals until the main process is ending."""

    def __init__(self, former: Any, numbers: list[int], ending: mmap.mmap) -> None:
        self.former = former
        self._numbers = numbers
        self._ending = ending

    def __call__(self, worker_id: int) -> None:
        if self.former is not None:
            self.former(worker_id)
        for number in self._numbers:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # At the end the main process sends SIGTERM and waits, so then the worker has to obey. With 0, as torch's own
        # handler does it, since any other code is reported as a crash.
        if self._ending[0]:
            os._exit(0)
