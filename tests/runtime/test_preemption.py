import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mtl_plugins.runtime.checkpoints import atomic_backend
from mtl_plugins.runtime.hooks.preemption import EXIT_PREEMPTED, PreemptionHook, TrainingPreempted
from tests.support.programs import Program, run
from tests.support.two_ranks import run_ranks

from .safety import Recorder, build_runner, release

NEVER = dict(interval=100, by_epoch=False)


class SignalAt(Hook):
    """Sends a signal to the own process in the given iteration or validation step."""

    def __init__(self, number=signal.SIGTERM, iteration=None, val_iteration=None):
        self.number, self.iteration, self.val_iteration = number, iteration, val_iteration
        self.val_steps = 0

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration:
            signal.raise_signal(self.number)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.val_steps += 1
        if batch_idx + 1 == self.val_iteration:
            signal.raise_signal(self.number)


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


def _preempt(folder, *hooks, **kwargs):
    recorder = Recorder()
    runner = build_runner(folder, [PreemptionHook(), recorder, *hooks], **kwargs)
    with pytest.raises(TrainingPreempted) as caught:
        runner.train()
    release(runner)
    return caught.value, recorder, runner


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
def test_finishes_the_iteration_saves_and_stops(tmp_path, number):
    error, recorder, _ = _preempt(tmp_path, SignalAt(number, iteration=4), checkpoint=NEVER)
    assert sorted(recorder.losses) == [1, 2, 3, 4]
    assert error.code == EXIT_PREEMPTED == 75
    assert error.signal_name == number.name
    assert error.checkpoint == str(tmp_path / 'iter_4.pth')
    assert torch.load(tmp_path / 'iter_4.pth', weights_only=True)['meta']['iter'] == 4


def test_a_terminal_that_closes_stops_it_too_but_not_under_nohup(tmp_path):
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        error, recorder, _ = _preempt(tmp_path / 'seen', SignalAt(signal.SIGHUP, iteration=2), checkpoint=NEVER)
        assert (error.code, error.signal_name, sorted(recorder.losses)) == (75, 'SIGHUP', [1, 2])
        assert not (tmp_path / 'seen' / 'run.lock').exists()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        runner = build_runner(tmp_path / 'not', [PreemptionHook(), SignalAt(signal.SIGHUP, iteration=1)], iters=2)
        runner.train()
        release(runner)
        assert (tmp_path / 'not' / 'iter_2.pth').exists()
    finally:
        signal.signal(signal.SIGHUP, former)


def test_no_second_save_where_one_was_due(tmp_path, monkeypatch):
    targets = []
    real = os.replace
    monkeypatch.setattr(atomic_backend.os, 'replace', lambda a, b: (targets.append(Path(b).name), real(a, b)))
    _preempt(tmp_path, SignalAt(iteration=4), checkpoint=dict(interval=2, by_epoch=False))
    assert [name for name in targets if name.endswith('.pth')] == ['iter_2.pth', 'iter_4.pth']


def test_other_hooks_can_finish(tmp_path):
    class Last(Hook):
        ran = False

        def after_run(self, runner):
            self.ran = True

    last = Last()
    _preempt(tmp_path, SignalAt(iteration=1), last)
    assert last.ran


def test_validation_is_skipped_when_a_signal_is_pending(tmp_path):
    probe = SignalAt(iteration=4)
    _preempt(tmp_path, probe, val_interval=4, checkpoint=NEVER)
    assert probe.val_steps == 0


def test_validation_is_cut_short_when_the_iteration_is_saved(tmp_path):
    probe = SignalAt(val_iteration=2)
    error, recorder, _ = _preempt(tmp_path, probe, val_interval=4, checkpoint=dict(interval=4, by_epoch=False))
    assert probe.val_steps == 2
    assert sorted(recorder.losses) == [1, 2, 3, 4]
    assert error.checkpoint == str(tmp_path / 'iter_4.pth')


def test_validation_is_finished_when_there_is_something_to_save(tmp_path):
    probe = SignalAt(val_iteration=2)
    _, recorder, _ = _preempt(tmp_path, probe, val_interval=4, checkpoint=NEVER)
    assert probe.val_steps == 5
    assert sorted(recorder.losses) == [1, 2, 3, 4]
    assert torch.load(tmp_path / 'iter_4.pth', weights_only=True)['meta']['iter'] == 4


def test_handlers_are_back_after_a_normal_end(tmp_path):
    runner = build_runner(tmp_path, [PreemptionHook()], iters=2)
    runner.train()
    release(runner)  # the fixture compares


def test_sigint_stays_an_interrupt(tmp_path):
    # A program started in the background of a script ignores SIGINT from the beginning.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    runner = build_runner(tmp_path, [PreemptionHook(), SignalAt(signal.SIGINT, iteration=2)])
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    release(runner)
    next(hook for hook in runner.hooks if isinstance(hook, PreemptionHook)).restore()
    signal.signal(signal.SIGINT, former)


def test_after_a_crash_signals_act_as_before(tmp_path):
    class Crash(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            raise ZeroDivisionError

    other = signal.getsignal(signal.SIGUSR1)  # of a command that ran before in this process, or none
    received = []
    former = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        runner = build_runner(tmp_path, [PreemptionHook(), Crash()])
        with pytest.raises(ZeroDivisionError):
            runner.train()
        release(runner)
        assert signal.getsignal(signal.SIGTERM) is not former
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.01)
        assert received == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGUSR1) == other
    finally:
        signal.signal(signal.SIGTERM, former)


def test_outside_the_main_thread_it_does_nothing(tmp_path):
    runner = build_runner(tmp_path, [PreemptionHook()], iters=2)
    thread = threading.Thread(target=runner.train)
    thread.start()
    thread.join(60)
    release(runner)
    assert (tmp_path / 'iter_2.pth').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(signals=('SIGNOPE',)), r"signals must be names such as 'SIGTERM', got \['SIGNOPE'\]"),
        (dict(exit_code=0), r'PreemptionHook\.exit_code must be an integer in \[1, 255\], but got 0'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        PreemptionHook(**arguments)


@pytest.mark.parametrize('workers', [0, 2])
def test_program_ends_with_its_code_and_goes_on_later(tmp_path, workers):
    """SIGTERM to the whole process group, data workers included, as schedulers and torchrun send it."""
    words = ['-m', 'tests.runtime.safety', tmp_path, '--interval', 1000, '--workers', workers, '--pause', 0.02]
    with Program(*words, new_session=True) as program:
        program.wait_for('iteration 3')
        os.killpg(program.pid, signal.SIGTERM)
        assert program.wait(30) == 75, program.stderr
        output = program.stdout + program.stderr
    [path] = tmp_path.glob('*.pth')
    last = int(path.stem.split('_')[1])
    assert last >= 3
    assert f'resume from {path}' in output
    assert f'iteration {last + 1}' not in output
    done = run(*words, '--iters', last + 2, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f'start {path}' in done.stdout
    assert next(line for line in done.stdout.splitlines() if line.startswith('iteration')) == f'iteration {last + 1}'


def test_crash_with_data_workers_ends_the_program(tmp_path):
    """Workers that ignore SIGTERM must not keep the main process waiting for them at exit."""
    done = run('-m', 'tests.runtime.safety', tmp_path, '--crash-after', 2, '--workers', 2, timeout=60)
    assert done.returncode == 1
    assert 'ZeroDivisionError' in done.stderr


def test_one_process_stops_both(tmp_path):
    run_ranks('-m', 'tests.runtime.processes', 'one_signal', tmp_path, expect=75)
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_4.pth']
    saved = torch.load(tmp_path / 'iter_4.pth', weights_only=True)
    assert len(saved['mtl_rng']['ranks']) == 2
