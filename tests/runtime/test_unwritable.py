"""A disk that is full for a while, or to the end: what goes on, what is tried again, what is an error."""

import contextlib
import errno
import json
import logging
import os
import resource
import signal

import pytest
from mmengine.hooks import Hook
from mmengine.visualization import LocalVisBackend

from mtl_plugins.runtime.checkpoints import CheckpointWriteError, atomic_backend, find_newest_loadable
from mtl_plugins.runtime.hooks import EnvironmentStampHook, MetricsFileHook, PreemptionHook, TrainingPreempted
from mtl_plugins.runtime.hooks.outputs import append_line
from mtl_plugins.runtime.hooks.safe_checkpoint import SafeCheckpointHook

from .safety import Recorder, build_runner, names, release
from .test_preemption import SignalAt

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Disk:
    """Decides by name which files find no space."""

    def __init__(self, monkeypatch):
        self.full = lambda name: False
        real = atomic_backend._write_and_flush

        def write(view, path):
            if self.full(path.name):
                raise FULL
            real(view, path)

        monkeypatch.setattr(atomic_backend, '_write_and_flush', write)


class At(Hook):
    """Calls a function at the beginning of an iteration or a validation."""

    def __init__(self, iteration=None, validation=None, call=None):
        self.iteration, self.validation, self.call = iteration, validation, call

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            self.call()

    def before_val(self, runner):
        if runner.iter == self.validation:
            self.call()


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def best(interval=2, **options):
    return dict(interval=interval, by_epoch=False, save_best='numbers/error', **options)


def always_better(monkeypatch):
    monkeypatch.setattr(SafeCheckpointHook, 'rule_map', dict(less=lambda *_: True, greater=lambda *_: True))


def test_a_saved_best_does_not_hide_that_the_last_state_was_lost(tmp_path, disk, monkeypatch):
    always_better(monkeypatch)
    disk.full = lambda name: name.startswith('.iter_4')
    recorder = Recorder()
    runner = build_runner(tmp_path, [recorder], iters=4, val_interval=2, checkpoint=best(rule='less'))
    with pytest.raises(CheckpointWriteError, match=r'iter_4\.pth'):
        runner.train()
    assert sorted(recorder.losses) == [1, 2, 3, 4]
    assert (tmp_path / 'best_numbers_error_iter_4.pth').is_file()
    release(runner)


def test_a_saved_state_does_not_hide_that_the_best_was_lost(tmp_path, disk, capsys):
    disk.full = lambda name: name.startswith('.best')
    runner = build_runner(tmp_path, iters=4, val_interval=2, checkpoint=best(interval=1, rule='less'))
    with pytest.raises(CheckpointWriteError, match=r'best_numbers_error_iter_\d\.pth'):
        runner.train()
    assert (tmp_path / 'iter_4.pth').is_file()
    assert 'The run is at its end, but the best model could not be saved' in capsys.readouterr().out
    release(runner)


def test_a_worse_best_does_not_make_up_for_a_lost_one(tmp_path, disk):
    hook = SafeCheckpointHook(**best(interval=100, rule='less'))
    runner = build_runner(tmp_path, iters=2, checkpoint=best(interval=100, rule='less'))
    (old,) = [one for one in runner.hooks if isinstance(one, SafeCheckpointHook)]
    runner._hooks[runner._hooks.index(old)] = hook
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    hook.before_run(runner)
    hook.before_train(runner)
    lost = next(one for one in runner.hooks if type(one).__name__ == 'OutputsHook').lost
    hook._save_best_checkpoint(runner, {'numbers/error': 3.0})
    disk.full = lambda name: True
    hook._save_best_checkpoint(runner, {'numbers/error': 1.0})
    assert lost
    disk.full = lambda name: False
    hook._save_best_checkpoint(runner, {'numbers/error': 2.0})
    assert lost
    hook._save_best_checkpoint(runner, {'numbers/error': 1.0})
    assert not lost
    hook.after_run(runner)
    release(runner)


def test_a_best_that_could_not_be_saved_is_tried_again_at_the_end(tmp_path, disk):
    class Free(Hook):
        priority = 'VERY_HIGH'

        def after_train(self, runner):
            disk.full = lambda name: False

    disk.full = lambda name: name.startswith('.best')
    runner = build_runner(tmp_path, [Free()], iters=2, val_interval=2, checkpoint=best(rule='less'))
    runner.train()
    assert (tmp_path / 'best_numbers_error_iter_2.pth').is_file()
    release(runner)


def test_training_goes_on_without_metrics_and_writes_them_later(tmp_path, disk):
    def free():
        disk.full = lambda name: False

    disk.full = lambda name: 'metrics' in name
    hooks = [MetricsFileHook(), At(iteration=3, call=free)]
    runner = build_runner(tmp_path, hooks, iters=4, val_interval=2)
    runner.train()
    assert [entry['iter'] for entry in json.loads((tmp_path / 'metrics.json').read_text())] == [2, 4]
    release(runner)


def test_lost_metrics_are_an_error_after_everything_else_is_done(tmp_path, disk):
    class Last(Hook):
        ended = False

        def after_run(self, runner):
            self.ended = True

    last = Last()
    disk.full = lambda name: 'metrics' in name
    runner = build_runner(tmp_path, [MetricsFileHook(), last], iters=4, val_interval=2)
    with pytest.raises(CheckpointWriteError, match=r'metrics\.json'):
        runner.train()
    assert last.ended
    assert (tmp_path / 'iter_4.pth').is_file()
    release(runner)


def test_logs_and_pictures_end_no_run_and_warn_once(tmp_path, monkeypatch, capsys):
    def full(*_args, **_kwargs):
        raise FULL

    monkeypatch.setattr(LocalVisBackend, '_dump', full)
    monkeypatch.setattr('mtl_plugins.runtime.hooks.environment.Path.write_text', full)

    class FullLog(Hook):
        priority = 'LOWEST'

        def before_train(self, runner):
            runner.logger.addHandler(handler)

    handler = logging.FileHandler('/dev/full')
    runner = build_runner(tmp_path, [EnvironmentStampHook(), FullLog()], iters=4, val_interval=2)
    next(hook for hook in runner.hooks if type(hook).__name__ == 'LoggerHook').interval = 1
    runner.train()
    runner.logger.removeHandler(handler)
    with contextlib.suppress(OSError):
        handler.close()
    printed = capsys.readouterr()
    assert 'Logging error' not in printed.err
    for what in ('the output of LocalVisBackend', 'the log /dev/full', 'environment.json'):
        assert printed.out.count(f'{what} cannot be written') == 1, what
    assert (tmp_path / 'iter_4.pth').is_file()
    release(runner)


def test_a_line_is_appended_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / 'log.jsonl'
    runner = build_runner(tmp_path / 'run', iters=1)
    append_line(runner, path, '{"iter": 1}')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
        append_line(runner, path, '{"iter": 2, "more": "text"}')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, former)
    append_line(runner, path, '{"iter": 3}')
    assert [json.loads(line)['iter'] for line in path.read_text().splitlines()] == [1, 3]
    release(runner)


def test_a_stop_that_cannot_save_is_an_error_not_75(tmp_path, disk):
    disk.full = lambda name: name.startswith('.iter')
    hooks = [PreemptionHook(), SignalAt(iteration=3)]
    runner = build_runner(tmp_path, hooks, checkpoint=dict(interval=100, by_epoch=False))
    with pytest.raises(CheckpointWriteError, match=r'iter_3\.pth'):
        runner.train()
    assert find_newest_loadable(tmp_path) is None
    release(runner)


def test_a_stop_after_a_failed_save_that_is_made_good_is_75(tmp_path, disk):
    def free():
        disk.full = lambda name: False

    disk.full = lambda name: name.startswith('.iter')
    hooks = [PreemptionHook(), At(iteration=2, call=free), SignalAt(iteration=3)]
    runner = build_runner(tmp_path, hooks, checkpoint=dict(interval=2, by_epoch=False))
    with pytest.raises(TrainingPreempted):
        runner.train()
    assert 'iter_3.pth' in names(tmp_path)
    release(runner)
