"""AdaTask's measure of dominance: averages of squared updates, their shares, log and picture."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch

from mtl_plugins.engine.hooks import DominanceHook, GradientConflictHook
from mtl_plugins.runtime.hooks import OutputsHook
from mtl_plugins.visualization import draw_dominance

from .all_methods import build, read_fragment
from .toy import TASKS, flat, make_model, toy_batch


def run(folder, hook, batches, key='ada_task', lr=0.1):
    model = make_model()
    wrapper = build(key, model, lr=lr)
    runner = SimpleNamespace(
        optim_wrapper=wrapper,
        model=model,
        iter=0,
        log_dir=str(folder / 'log'),
        work_dir=str(folder),
        logger=logging.getLogger('test'),
        visualizer=SimpleNamespace(add_scalars=lambda values, step: None),
        hooks=[OutputsHook()],
    )
    hook.before_train(runner)
    for batch in batches:
        hook.before_train_iter(runner, runner.iter, batch)
        model.train_step(batch, wrapper)
        hook.after_train_iter(runner, runner.iter)
        runner.iter += 1
    hook.after_train(runner)
    return model


def test_averages_of_squared_updates(tmp_path):
    hook = DominanceHook(interval=2, decay=0.5)
    model = run(tmp_path, hook, [toy_batch(0), toy_batch(1, tasks=('a', 'c')), toy_batch(2)])
    (entry,) = [json.loads(line) for line in (tmp_path / 'log' / 'dominance.jsonl').read_text().splitlines()]
    assert (entry['iter'], entry['tasks']) == (2, list(TASKS))
    assert list(entry['AU']) == ['backbone.0', 'backbone.4']
    # Adam's first step of every weight is lr for every task: (1 - decay) lr^2 per element; b was absent afterwards.
    elements = sum(p.numel() for p in model.backbone[0].parameters())
    assert entry['AU']['backbone.0'][1] == pytest.approx(0.5 * elements * 0.01**2, rel=1e-3)
    assert all(sum(shares) == pytest.approx(1) for shares in entry['rAU'].values())
    assert entry['rAU']['backbone.0'][1] < 1 / 3
    assert (tmp_path / 'dominance.png').stat().st_size > 1000


def test_watching_changes_nothing_and_other_methods_are_left_alone(tmp_path):
    batches = [toy_batch(i) for i in range(3)]
    watched = run(tmp_path, DominanceHook(), batches)
    plain = make_model()
    wrapper = build('ada_task', plain)
    for batch in batches:
        plain.train_step(batch, wrapper)
    assert torch.equal(flat(watched), flat(plain))
    run(tmp_path / 'gd', DominanceHook(interval=1), batches, key='gd')
    assert not (tmp_path / 'gd').exists()


def test_within_a_schedule_it_is_the_same(tmp_path):
    ada_task = read_fragment('ada_task')
    optimizer = ada_task.pop('optimizer')
    strategies = [ada_task, dict(type='mtl_plugins.MultiTaskOptimWrapper')]
    found = []
    for key in (
        'ada_task',
        dict(type='mtl_plugins.SwitchOptimWrapper', strategies=strategies, at=2, optimizer=optimizer),
    ):
        hook = DominanceHook()
        run(tmp_path, hook, [toy_batch(i) for i in range(2 if key == 'ada_task' else 3)], key)
        found.append(hook.layers())
    assert found[0] == found[1] != {}


def test_where_nothing_moves_no_task_dominates(tmp_path):
    hook = DominanceHook(interval=1)
    run(tmp_path, hook, [toy_batch(0)], lr=0.0)
    entry = json.loads((tmp_path / 'log' / 'dominance.jsonl').read_text())
    assert entry['AU'] == dict.fromkeys(['backbone.0', 'backbone.4'], [0.0] * 3)
    assert entry['rAU'] == dict.fromkeys(['backbone.0', 'backbone.4'], [1 / 3] * 3)


@pytest.mark.parametrize('hook', [DominanceHook(interval=1), GradientConflictHook(interval=1)])
def test_a_log_that_cannot_be_written_does_not_end_the_training(tmp_path, hook, caplog):
    (tmp_path / 'log').write_text('in the way')
    with caplog.at_level('WARNING', 'test'):
        run(tmp_path, hook, [toy_batch(0)])
    assert str(tmp_path / 'log') in caplog.text


def test_the_picture_is_announced(tmp_path, caplog):
    with caplog.at_level('INFO', 'test'):
        run(tmp_path, DominanceHook(), [])
        assert 'dominance' not in caplog.text
        run(tmp_path, DominanceHook(), [toy_batch(0)])
    assert f'dominance of the tasks per layer: {tmp_path}/dominance.png' in caplog.text


def test_layers_by_depth(tmp_path):
    hook = DominanceHook(depth=1)
    run(tmp_path, hook, [toy_batch(0)])
    assert list(hook.layers()) == ['backbone']


@pytest.mark.parametrize(
    ('options', 'message'), [(dict(interval=0), 'interval'), (dict(decay=1), 'decay'), (dict(depth=0), 'depth')]
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=f'DominanceHook.{message} must'):
        DominanceHook(**options)


def test_the_picture_needs_a_share_per_task():
    with pytest.raises(ValueError, match='one share per task'):
        draw_dominance({'layer': [0.5, 0.5]}, ['a'])
