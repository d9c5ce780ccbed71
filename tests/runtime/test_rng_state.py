import random
import signal

import numpy as np
import pytest
import torch

from mtl_plugins.runtime.checkpoints import from_plain, to_plain
from mtl_plugins.runtime.hooks.preemption import PreemptionHook, TrainingPreempted
from mtl_plugins.runtime.hooks.rng_state import get_rng_state, set_rng_state
from tests.support.two_ranks import run_ranks

from .safety import Recorder, StopAfter, build_runner, release


def _draw():
    return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1)  # noqa: NPY002


def _same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(_same, first, second))
    return first == second


def assert_same_training(first, second):
    """Weights, optimizer, schedule and generators of two runners are equal bit for bit."""
    assert _same(dict(first.model.state_dict()), dict(second.model.state_dict()))
    assert _same(first.optim_wrapper.state_dict(), second.optim_wrapper.state_dict())
    assert first.param_schedulers[0].state_dict() == second.param_schedulers[0].state_dict()


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The uninterrupted run, with validations after iterations 5 and 10."""
    recorder = Recorder()
    runner = build_runner(tmp_path_factory.mktemp('whole'), [recorder], val_interval=5)
    runner.train()
    release(runner)
    return runner, recorder.losses, get_rng_state()


def _stop_and_resume(folder, stop, name, **kwargs):
    first, second = Recorder(), Recorder()
    stopped = build_runner(folder, [first, stop], **kwargs)
    with pytest.raises((StopAfter.Stop, TrainingPreempted)):
        stopped.train()
    release(stopped)
    torch.manual_seed(999)
    resumed = build_runner(folder, [second], resume_from=folder / name, **kwargs)
    resumed.train()
    release(resumed)
    return resumed, first.losses | second.losses, second.losses


def test_state_round_trip():
    _draw()
    state = from_plain(to_plain(get_rng_state()))
    first = _draw()
    set_rng_state(state)
    assert _draw() == first


@pytest.mark.parametrize('stop', [4, 5, 10])  # 5 and 10 are validation iterations
@pytest.mark.parametrize('workers', [0, 2])
def test_resume_is_exact(whole, tmp_path, stop, workers):
    runner, losses, state = whole
    resumed, others, after = _stop_and_resume(
        tmp_path, StopAfter(stop), f'iter_{stop}.pth', val_interval=5, num_workers=workers
    )
    assert others == losses
    assert sorted(after) == list(range(stop + 1, 13))
    assert_same_training(resumed, runner)
    assert _same(get_rng_state(), state)


def test_resume_from_the_file_that_validation_saved(whole, tmp_path):
    """``save_best`` writes iter_5.pth in the middle of a validation that draws random numbers."""
    runner, losses, state = whole
    options = dict(interval=2, by_epoch=False, save_best='numbers/error', rule='less')
    resumed, others, after = _stop_and_resume(tmp_path, StopAfter(7), 'iter_5.pth', val_interval=5, checkpoint=options)
    assert sorted(after) == list(range(6, 13))
    assert others == losses
    assert_same_training(resumed, runner)
    assert _same(get_rng_state(), state)


def test_resume_after_a_save_at_an_arbitrary_iteration(whole, tmp_path):
    class Signal(PreemptionHook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 6:
                signal.raise_signal(signal.SIGTERM)

    runner, losses, _ = whole
    resumed, others, after = _stop_and_resume(
        tmp_path, Signal(), 'iter_7.pth', val_interval=5, checkpoint=dict(interval=100, by_epoch=False)
    )
    assert sorted(after) == list(range(8, 13))
    assert others == losses
    assert_same_training(resumed, runner)


def test_validation_does_not_change_training(whole, tmp_path):
    runner, losses, state = whole
    for folder, interval in (('a', None), ('b', 1)):
        recorder = Recorder()
        other = build_runner(tmp_path / folder, [recorder], val_interval=interval)
        other.train()
        release(other)
        assert recorder.losses == losses
        assert_same_training(other, runner)
        assert _same(get_rng_state(), state)


def test_without_the_hook_a_resume_differs(whole, tmp_path):
    """The other tests would notice."""
    _, losses, _ = whole
    _, others, _ = _stop_and_resume(tmp_path, StopAfter(4), 'iter_4.pth', val_interval=5, rng_hook=False)
    assert others != losses


def test_two_processes_keep_their_own_generators(tmp_path):
    run_ranks('-m', 'tests.runtime.processes', 'rng_resume', tmp_path)
