"""The log of affinity and groups: when it is written, by whom, and what a resumed run takes over."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch

from mtl_plugins.config import build_runner
from mtl_plugins.engine.hooks import AffinityHook, affinity
from mtl_plugins.engine.hooks.look_aheads import LookAheads
from mtl_plugins.visualization import read_affinity_log
from tests.support.runs import differences, state_of, tiny_config

from .all_methods import build
from .toy import TASKS, make_model, toy_batch


class Backends(dict):
    _vis_backends = {}

    def add_scalars(self, values, step):
        self[step] = values


def run(folder, key='stgu', start=0, stop=5, interval=2, stamp='1', unseen=(), **settings):
    """Train the toy model from iteration ``start``; ``unseen`` are iterations whose step never comes."""
    model = make_model()
    wrapper = build(key, model, **settings)
    runner = SimpleNamespace(
        optim_wrapper=wrapper,
        iter=start,
        log_dir=str(folder / stamp),
        work_dir=str(folder),
        logger=logging.getLogger('test_affinity_hook'),
        visualizer=Backends(),
    )
    hook = AffinityHook(interval=interval)
    hook.before_train(runner)
    for number in range(start, stop):
        if number not in unseen:
            model.train_step(toy_batch(number), wrapper)
        hook.after_train_iter(runner, number)
        runner.iter += 1
    return hook, runner


def entries(folder, stamp='1'):
    return [json.loads(line) for line in (folder / stamp / 'affinity.jsonl').read_text().splitlines()]


def test_an_entry_per_interval(tmp_path):
    _, runner = run(tmp_path)
    found = entries(tmp_path)
    assert [entry['iter'] for entry in found] == [2, 4]
    assert list(runner.visualizer) == [2, 4]
    for entry in found:
        assert entry['tasks'] == list(TASKS)
        assert entry['num_groups'] == len(entry['groups'])
        assert sorted(task for group in entry['groups'] for task in group) == list(TASKS)
        scalars = runner.visualizer[entry['iter']]
        assert scalars == {
            f'affinity/{s}->{t}': entry['affinity'][i][j] for i, s in enumerate(TASKS) for j, t in enumerate(TASKS)
        }
    assert len(set(scalars.values())) == 9


def test_a_resumed_run_takes_over_what_came_before_its_checkpoint(tmp_path):
    run(tmp_path, stop=8)
    first = entries(tmp_path)
    run(tmp_path, start=4, stop=8, stamp='2')
    second = entries(tmp_path, '2')
    assert [entry['iter'] for entry in second] == [2, 4, 6, 8]
    assert second[:2] == first[:2]
    assert second[2:] != first[2:], 'the entries behind the checkpoint are its own'
    run(tmp_path, start=0, stop=2, stamp='3')
    assert [entry['iter'] for entry in entries(tmp_path, '3')] == [2], 'a new run takes over nothing'


def test_a_resumed_run_leaves_out_entries_that_cannot_be_drawn(tmp_path):
    run(tmp_path, stop=4)
    damaged = entries(tmp_path)
    damaged[0]['affinity'][1][2] = float('nan')
    (tmp_path / '1' / 'affinity.jsonl').write_text(''.join(json.dumps(entry) + '\n' for entry in damaged))
    run(tmp_path, start=4, stop=6, stamp='2')
    assert [entry['iter'] for entry in entries(tmp_path, '2')] == [4, 6]


def test_nothing_is_logged_before_the_tasks_are_known_by_other_methods_or_by_other_ranks(tmp_path, monkeypatch):
    run(tmp_path, unseen={0, 1}, stop=4)
    assert [entry['iter'] for entry in entries(tmp_path)] == [4]
    hook, runner = run(tmp_path / 'gd', key='gd')
    hook.before_val(runner)
    assert not (tmp_path / 'gd').exists()
    monkeypatch.setattr(affinity, 'is_main_process', lambda: False)
    run(tmp_path / 'other')
    assert not (tmp_path / 'other').exists()


def test_pictures_come_with_validations_and_are_named_at_the_end(tmp_path, caplog):
    hook, runner = run(tmp_path, stop=1)
    hook.before_val(runner)
    with caplog.at_level(logging.INFO, logger=runner.logger.name):
        hook.after_train(runner)
    assert caplog.messages == []
    assert not (tmp_path / 'affinity.png').exists()
    hook, runner = run(tmp_path, stop=2)
    hook.before_val(runner)
    pictures = [tmp_path / 'affinity.png', tmp_path / 'groups.png']
    assert all(picture.stat().st_size > 1000 for picture in pictures)
    drawn = [picture.stat().st_ino for picture in pictures]
    with caplog.at_level(logging.INFO, logger=runner.logger.name):
        hook.after_train(runner)
    assert caplog.messages == [f'affinity and groups: {pictures[0]}, {pictures[1]}']
    assert [picture.stat().st_ino for picture in pictures] == drawn, 'nothing is new since the validation'
    for number in (2, 3):
        runner.iter = number
        hook.after_train_iter(runner, number)
    hook.after_train(runner)
    assert all(picture.stat().st_ino != former for picture, former in zip(pictures, drawn))


@pytest.mark.parametrize('interval', [0, -1])
def test_bad_interval_is_refused(interval):
    with pytest.raises(ValueError, match=f'AffinityHook.interval must be an integer >= 1, but got {interval}'):
        AffinityHook(interval=interval)


def test_the_affinity_is_tracked_beside_any_method(tmp_path):
    """Logged and drawn as under STGU, resumed, and without a trace in the training."""
    states = {}
    for name, hook, resume in (
        ('plain', None, False),
        ('whole', AffinityHook(interval=2, probe_interval=2, decay=0.2), False),
        ('resumed', AffinityHook(interval=2, probe_interval=2, decay=0.2), True),
    ):
        options = {'train_cfg.max_iters': 6, 'default_hooks.checkpoint.interval': 4}
        cfg = tiny_config(tmp_path / name, tmp_path / 'cache', 'gd', **options)
        if resume:
            cfg.load_from, cfg.resume = str(tmp_path / 'whole' / 'iter_4.pth'), True
        runner = build_runner(cfg)
        if hook:
            runner.register_hook(hook)
        runner.train()
        states[name] = state_of(runner)
    assert differences(states['plain'], states['whole']) == []
    assert differences(states['plain'], states['resumed']) == []
    logs = [read_affinity_log(next((tmp_path / name).glob('*/affinity.jsonl'))) for name in ('whole', 'resumed')]
    assert [entry['iter'] for entry in logs[0]] == [2, 4, 6]
    assert logs[0][-1] == logs[1][-1]
    assert any(value != 0 for row in logs[0][-1]['affinity'] for value in row)
    assert sorted(task for group in logs[0][-1]['groups'] for task in group) == ['depth', 'normals', 'semseg']
    assert (tmp_path / 'whole' / 'affinity.png').is_file()


def test_the_same_is_measured_under_every_method_that_does_not_measure_it_itself(tmp_path, caplog):
    logs = {}
    for key in ('gd', 'son_goku', 'phases', 'stgu'):
        model = make_model()
        runner = SimpleNamespace(
            optim_wrapper=build(key, model),
            model=model,
            iter=0,
            log_dir=str(tmp_path / key),
            work_dir=str(tmp_path / key),
            logger=logging.getLogger('test_affinity_hook'),
            visualizer=Backends(),
        )
        probing = AffinityHook(interval=1, probe_interval=1, decay=1.0)
        runner.hooks = [AffinityHook(interval=1), probing]  # the last one logs
        with caplog.at_level(logging.INFO, logger=runner.logger.name):
            for hook in runner.hooks:
                hook.before_train(runner)
        torch.manual_seed(0)
        for hook in runner.hooks:
            hook.before_train_iter(runner, 0, toy_batch(0))
        model.train_step(toy_batch(0), runner.optim_wrapper)
        for hook in runner.hooks:
            hook.after_train_iter(runner, 0)
        (logs[key],) = entries(tmp_path, key)
    assert logs['gd'] == logs['son_goku'] == logs['phases'] != logs['stgu']
    model = make_model()
    torch.manual_seed(0)
    gains = LookAheads(model, build('gd', model), ['proximal']).measure(toy_batch(0))['proximal']
    torch.testing.assert_close(torch.tensor(logs['gd']['affinity']).double(), gains, rtol=1e-5, atol=1e-7)
    assert caplog.messages[-1].startswith('AffinityHook.probe_interval is without effect')


def test_what_cannot_be_tracked_is_refused():
    with pytest.raises(ValueError, match=r'AffinityHook.probe_interval must be an integer >= 0, but got -1'):
        AffinityHook(probe_interval=-1)
    with pytest.raises(ValueError, match=r'AffinityHook.decay must be a number in \(0, 1\], but got 2'):
        AffinityHook(probe_interval=1, decay=2)
