"""A stop between a checkpoint and the validation that was due at it: the resumed run is what an unstopped one is."""

import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook

from mtl_plugins.runtime.hooks import MetricsFileHook, PreemptionHook, TrainingPreempted
from mtl_plugins.runtime.hooks.due_validation import DueValidationHook
from mtl_plugins.runtime.hooks.metrics_file import read_metrics
from mtl_plugins.runtime.hooks.safe_checkpoint import SafeCheckpointHook

from .safety import Numbers, Recorder, build_runner, release, strict_load
from .test_preemption import SignalAt

BEST = dict(interval=2, by_epoch=False, save_best='numbers/error', rule='less')


class Kill(BaseException):
    """Stands for SIGKILL: nobody cleans up."""


class KillAt(Hook):
    priority = 'HIGHEST'

    def __init__(self, point, iteration):
        self.iteration = iteration
        setattr(self, point, self._kill)

    def _kill(self, runner, *_args, **_kwargs):
        if runner.iter == self.iteration:
            raise Kill


class SignalIn(Hook):
    """A signal in the middle of the validation after iteration 4."""

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 4 and batch_idx == 1:
            signal.raise_signal(signal.SIGTERM)


class Validations(Hook):
    def __init__(self):
        self.at = []

    def before_val(self, runner):
        self.at.append(runner.iter)


def kill_saving_best(runner, _what):
    """Right before the best model of iteration 4 is written."""

    def save(self, runner, metrics):
        if runner.iter == 4:
            raise Kill
        return type(hook)._save_best_checkpoint(hook, runner, metrics)

    hook = next(hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook))
    hook._save_best_checkpoint = save.__get__(hook)


def kill_after_best(runner, _what):
    """When the best model of iteration 4 is there, and the checkpoint does not know of it."""

    def save(self, runner, step, meta):
        if step == 4 and len(list(folder.glob('best*'))) == 2:
            raise Kill
        return type(hook)._save_checkpoint_with_step(hook, runner, step, meta)

    folder = Path(runner.work_dir)
    hook = next(hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook))
    hook._save_checkpoint_with_step = save.__get__(hook)


def run(folder, hooks=(), metrics=True, prepare=None, iters=8, checkpoint=BEST, **kwargs):
    recorder, counted = Recorder(), Validations()
    own = [MetricsFileHook()] if metrics else []
    runner = build_runner(folder, [recorder, counted, *own, *hooks], iters, 2, checkpoint=dict(checkpoint), **kwargs)
    if prepare:
        prepare(runner, None)
    try:
        runner.train()
    finally:
        release(runner)
    return runner, recorder, counted


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    return folder, *run(folder)


@pytest.fixture(autouse=True)
def each_better(monkeypatch):
    """Later validations count as better, so that each would be the best."""
    scores = []

    def better(new, old):
        scores.append(new)
        return new != old

    monkeypatch.setattr(SafeCheckpointHook, 'rule_map', dict(less=better, greater=better))


STOPS = {
    'a signal before it begins': (TrainingPreempted, [PreemptionHook(), SignalAt(iteration=4)], None),
    'a signal in the middle': (TrainingPreempted, [PreemptionHook(), SignalIn()], None),
    'a kill before it begins': (Kill, [KillAt('before_val', 4)], None),
    'a kill in the middle': (Kill, [KillAt('after_val_iter', 4)], None),
    'a kill before the best is saved': (Kill, [], kill_saving_best),
    'a kill after the best is saved': (Kill, [], kill_after_best),
}


@pytest.mark.parametrize('stop', STOPS)
def test_it_is_made_up(stop, whole, tmp_path):
    error, hooks, prepare = STOPS[stop]
    with pytest.raises(error):
        run(tmp_path, hooks, prepare=prepare)
    newest = tmp_path / 'iter_4.pth'
    assert newest.is_file()
    runner, recorder, counted = run(tmp_path, resume_from=newest)
    assert counted.at == ([6, 8] if prepare is kill_after_best else [4, 6, 8])
    folder, reference, losses, _ = whole
    assert recorder.losses == {step: loss for step, loss in losses.losses.items() if step > 4}
    assert [(e['iter'], e['metrics']) for e in read_metrics(tmp_path / 'metrics.json')] == [
        (e['iter'], e['metrics']) for e in read_metrics(folder / 'metrics.json')
    ]
    assert [path.name for path in tmp_path.glob('best*')] == [path.name for path in folder.glob('best*')]
    for one, other in zip(runner.model.parameters(), reference.model.parameters()):
        assert torch.equal(one, other)
    saved, expected = (strict_load(place / 'iter_8.pth')['mtl_rng']['ranks'][0] for place in (tmp_path, folder))
    assert torch.equal(saved['torch'], expected['torch'])


def test_what_is_complete_is_not_repeated(tmp_path):
    with pytest.raises(Kill):
        run(tmp_path, [KillAt('before_train_iter', 4)])
    _, _, counted = run(tmp_path, resume_from=tmp_path / 'iter_4.pth')
    assert counted.at == [6, 8]


def test_without_metrics_file_it_is_made_up_too(tmp_path):
    with pytest.raises(Kill):
        run(tmp_path, [KillAt('before_val', 4)], metrics=False)
    _, _, counted = run(tmp_path, metrics=False, resume_from=tmp_path / 'iter_4.pth')
    assert counted.at == [4, 6, 8]


def test_after_the_last_iteration_too(tmp_path):
    with pytest.raises(Kill):
        run(tmp_path, [KillAt('before_val', 8)])
    _, recorder, counted = run(tmp_path, resume_from=tmp_path / 'iter_8.pth')
    assert (recorder.losses, counted.at) == ({}, [8])


def test_by_epochs_too(tmp_path):
    options = dict(interval=1, by_epoch=True)
    schedule = dict(by_epoch=True, max_epochs=3, val_interval=1)
    data = dict(batch_size=2, num_workers=0, dataset=Numbers(), sampler=dict(type='DefaultSampler', shuffle=True))
    data['collate_fn'] = dict(type='default_collate')

    def epochs(folder, hooks=(), resume_from=None):
        counted = Validations()
        runner = build_runner(
            folder,
            [counted, MetricsFileHook(), *hooks],
            val_interval=1,
            checkpoint=options,
            resume_from=resume_from,
            train_cfg=schedule,
            train_dataloader=data,
        )
        try:
            runner.train()
        finally:
            release(runner)
        return counted.at

    with pytest.raises(Kill):
        epochs(tmp_path, [KillAt('before_val', 10)])
    assert epochs(tmp_path, resume_from=tmp_path / 'epoch_2.pth') == [10, 15]


def test_a_schedule_that_follows_the_metrics_gets_them():
    plateau = SimpleNamespace(need_val_args=True)
    for schedulers in ([plateau], dict(one=[plateau])):
        assert not DueValidationHook._is_done(SimpleNamespace(param_schedulers=schedulers))


def test_of_best_models_of_killed_runs_the_best_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(
        SafeCheckpointHook, 'rule_map', dict(less=lambda new, old: new < old, greater=lambda new, old: new > old)
    )
    options = dict(interval=2, by_epoch=False, save_best='numbers/error', rule='less')
    with pytest.raises(Kill):
        run(tmp_path, [KillAt('before_train_iter', 6)], checkpoint=options)
    (best,) = tmp_path.glob('best*')
    score = strict_load(best)['message_hub']['runtime_info']['best_score']
    for number, other in ((91, score + 1), (92, score - 100), (93, None)):
        content = strict_load(best)
        content['message_hub']['runtime_info']['best_score'] = other
        if other is None:
            del content['message_hub']['runtime_info']['best_score']
        torch.save(content, tmp_path / f'best_numbers_error_iter_{number}.pth')
    shutil.copy(best, tmp_path / 'best_other_iter_3.pth')
    run(tmp_path, checkpoint=options, resume_from=tmp_path / 'iter_6.pth')
    assert sorted(path.name for path in tmp_path.glob('best*')) == [
        'best_numbers_error_iter_92.pth',  # better than all
        'best_numbers_error_iter_93.pth',  # does not say how good it is
        'best_other_iter_3.pth',  # of another metric
    ]
    hub = strict_load(tmp_path / 'iter_8.pth')['message_hub']['runtime_info']
    assert hub['best_ckpt'].endswith('best_numbers_error_iter_92.pth')


def test_resuming_from_elsewhere_touches_no_best_model(tmp_path):
    run(tmp_path / 'one', iters=4)
    (tmp_path / 'two').mkdir()
    (best,) = (tmp_path / 'one').glob('best*')
    mine = tmp_path / 'two' / 'best_numbers_error_iter_99.pth'
    shutil.copy(best, mine)
    run(tmp_path / 'two', iters=4, resume_from=tmp_path / 'one' / 'iter_4.pth')
    assert mine.is_file()
