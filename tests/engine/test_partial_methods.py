"""Every method on samples that carry a random part of the tasks, through the config and the Runner."""

import pytest
import torch

from mtl_plugins.engine.catalogue import list_methods
from tests.support.two_ranks import launch

from .ddp_partial import job
from .partial_runs import ABSENT, KEYS, PRESENT, partial_config, restricted, train, weights, without_absent
from .test_all_methods import DRAWS_PER_TASK

EVERY_DAY = ('gd', 'stgu', 'cagrad', 'famo', 'f_mtl')
"""One of each way to take a step; the others are slow tests."""
OTHERS = [row.key for row in list_methods() if row.key not in EVERY_DAY]
HEAD = ('conv.weight', 'conv.bias')
METHODS = [*EVERY_DAY, *(pytest.param(key, marks=pytest.mark.slow) for key in OTHERS)]


@pytest.fixture(scope='module')
def start(tmp_path_factory):
    """A checkpoint that all runs start from, as models of other heads draw other first weights."""
    folder = tmp_path_factory.mktemp('start')
    runner, _ = train(partial_config(folder, 'gd', iterations=1))
    return weights(runner), str(folder / 'iter_1.pth')


@pytest.mark.parametrize('key', METHODS)
def test_an_absent_task_is_no_part_of_training(key, start, tmp_path):
    """Its head stays, and the update is the method's on the others, of which each image has a random half."""
    first, checkpoint = start
    runner, present = train(partial_config(tmp_path / 'all', **without_absent(key), load_from=checkpoint))
    assert runner.optim_wrapper.task_names == (*PRESENT, ABSENT)
    assert runner.optim_wrapper.guard.total == {}
    assert set.union(*present.tasks) == set(PRESENT)
    assert any(tasks < set(PRESENT) for tasks in present.tasks), 'all batches had all tasks'
    found = weights(runner)
    moved = {name: not torch.equal(value, first[name]) for name, value in found.items()}
    assert not any(changed for name, changed in moved.items() if name.startswith(f'heads.{ABSENT}.'))
    assert all(moved[f'heads.{task}.predictor.{name}'] for task in PRESENT for name in HEAD)
    assert all(torch.isfinite(value).all() for value in found.values())
    if key in DRAWS_PER_TASK:
        return
    cfg = restricted(partial_config(tmp_path / 'some', **without_absent(key), load_from=checkpoint))
    runner, _ = train(cfg)
    assert runner.optim_wrapper.task_names == PRESENT
    expected = weights(runner)
    for name, value in expected.items():
        step = (value - first[name]).abs().max() if value.is_floating_point() else 0
        assert (found[name] - value).abs().max() <= 1e-4 * step, name


def check_two_ranks(keys, start, folder, monkeypatch):
    first, checkpoint = start
    (folder / 'start.pth').symlink_to(checkpoint)
    monkeypatch.setenv(KEYS, ','.join(keys))
    ranks = launch(job, folder, folder)
    for key in keys:
        one, two = (rank[key] for rank in ranks)
        assert all(torch.equal(value, two['weights'][name]) for name, value in one['weights'].items()), key
        assert all(torch.isfinite(value).all() for value in one['weights'].values()), key
        for name, value in one['weights'].items():
            assert not name.startswith(f'heads.{ABSENT}.') or torch.equal(value, first[name]), key
        assert not all(torch.equal(value, first[name]) for name, value in one['weights'].items()), key
        assert any(here != there for here, there in zip(one['present'], two['present'])), 'no task was on one rank only'


def test_two_ranks_with_different_tasks(start, tmp_path, monkeypatch):
    check_two_ranks(EVERY_DAY, start, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize('part', range(4))
def test_two_ranks_with_different_tasks_for_other_methods(part, start, tmp_path, monkeypatch):
    check_two_ranks(OTHERS[part::4], start, tmp_path, monkeypatch)
