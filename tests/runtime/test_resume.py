"""Stopping and resuming real runs of the shipped configs, bit for bit: drop-path, random scale, crop, flip, colours."""

from pathlib import Path

import pytest
import torch

from tests.support.runs import differences, state_of, tiny_config, train
from tests.support.two_ranks import run_ranks

# Saved at every second one, validated at 14; 11 images in batches of 2 put no epoch boundary there.
STOP, VAL, END = 6, 14, 22


@pytest.fixture(scope='module')
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp('cache')


def saving():
    return {
        'default_hooks.checkpoint.interval': 2,
        'default_hooks.checkpoint.max_keep_ckpts': -1,
        'train_cfg.max_iters': END,
        'train_cfg.val_interval': VAL,
    }


@pytest.mark.parametrize(
    ('method', 'workers'), [('gd', 0), pytest.param('stgu', 0, marks=pytest.mark.slow), ('stgu', 2)]
)
def test_resumed_run_equals_the_uninterrupted_one(tmp_path, cache_dir, method, workers):
    options = {**saving(), 'train_dataloader.num_workers': workers}
    runner, whole = train(tiny_config(tmp_path / 'whole', cache_dir, method, **options))
    expected = state_of(runner)
    if method == 'stgu':
        assert len({str(groups) for groups in whole.groups.values()}) > 1, 'the groups never changed'
    for stop in (STOP, VAL):
        checkpoint = str(tmp_path / 'whole' / f'iter_{stop}.pth')
        cfg = tiny_config(tmp_path / f'resumed{stop}', cache_dir, method, **options)
        cfg.resume, cfg.load_from = True, checkpoint
        # The number of workers may change.
        cfg.train_dataloader.num_workers = 2 - workers if stop == VAL else workers
        runner, part = train(cfg)
        assert sorted(part.losses) == list(range(stop, END))
        assert part.losses == {i: whole.losses[i] for i in part.losses}
        assert part.groups == {i: whole.groups[i] for i in part.groups}
        assert differences(expected, state_of(runner)) == []


def test_seed_matters(tmp_path, cache_dir):
    """The comparison above is not of two constants."""
    options = {'train_cfg.max_iters': 3, 'default_hooks.checkpoint.interval': 100}
    runs = [
        train(tiny_config(tmp_path / str(seed), cache_dir, 'gd', **options, **{'randomness.seed': seed}))
        for seed in (0, 1)
    ]
    assert runs[0][1].losses != runs[1][1].losses
    assert differences(state_of(runs[0][0])['weights'], state_of(runs[1][0])['weights'])


FEWER = ['depth', 'semseg']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(method='gd'), 'method'),
        ({'train_dataloader.batch_size': 3}, 'batch size'),
        ({'tasks': FEWER, 'val_evaluator.tasks': FEWER, 'test_evaluator.tasks': FEWER}, 'task'),
    ],
)
def test_resuming_another_kind_of_run_is_refused(tmp_path, cache_dir, change, message):
    options = {'train_cfg.max_iters': 2, 'default_hooks.checkpoint.interval': 2}
    train(tiny_config(tmp_path / 'first', cache_dir, 'stgu', **options))
    change = dict(change)
    cfg = tiny_config(tmp_path / 'second', cache_dir, change.pop('method', 'stgu'), **options)
    if 'tasks' in change:
        cfg.model.heads = {task: cfg.model.heads[task] for task in change.pop('tasks')}
    cfg.merge_from_dict(change)
    cfg.resume, cfg.load_from = True, str(tmp_path / 'first' / 'iter_2.pth')
    with pytest.raises(ValueError, match=message) as error:
        train(cfg)
    assert 'load_from' in str(error.value)


RANKS = """
import sys, torch
from pathlib import Path
from tests.support.runs import tiny_config, train, state_of
from tests.runtime.test_resume import STOP, VAL, saving
torch.set_num_threads(1)
folder, cache = Path(sys.argv[1]), Path(sys.argv[2])
rank = int(__import__('os').environ['RANK'])
for method in sys.argv[3:]:
    out = {}
    for name, stop in (('whole', None), ('stop', STOP), ('val', VAL)):
        cfg = tiny_config(folder / method / name, cache, method, launcher='pytorch', **saving())
        if stop:
            cfg.resume, cfg.load_from = True, str(folder / method / 'whole' / f'iter_{stop}.pth')
        runner, recorder = train(cfg)
        out[name] = dict(state=state_of(runner), losses=recorder.losses, groups=recorder.groups)
    torch.save(out, folder / f'{method}{rank}.pt')
"""


@pytest.fixture
def two_ranks(tmp_path_factory, cache_dir, method):
    folder = tmp_path_factory.mktemp('ranks')
    (folder / 'ranks.py').write_text(RANKS)
    run_ranks(folder / 'ranks.py', folder, cache_dir, method, seconds=400)
    return folder


@pytest.mark.parametrize('method', [pytest.param('gd', marks=pytest.mark.slow), 'stgu'])
def test_two_ranks_resume_exactly(two_ranks: Path, method):
    ranks = [torch.load(two_ranks / f'{method}{rank}.pt', weights_only=False) for rank in range(2)]
    for rank in ranks:
        whole = rank['whole']
        for name, stop in (('stop', STOP), ('val', VAL)):
            part = rank[name]
            assert sorted(part['losses']) == list(range(stop, END))
            assert part['losses'] == {i: whole['losses'][i] for i in part['losses']}
            assert part['groups'] == {i: whole['groups'][i] for i in part['groups']}
            assert differences(whole['state'], part['state']) == []
    assert differences(ranks[0]['whole']['state']['weights'], ranks[1]['whole']['state']['weights']) == []
    assert ranks[0]['whole']['groups'] == ranks[1]['whole']['groups']
    assert ranks[0]['whole']['losses'] != ranks[1]['whole']['losses'], 'both ranks saw the same data'
