"""The loading benchmark on small images: both sides deliver the same samples, and its figures mean something."""

import dataclasses
import json
import os

import numpy as np
import pytest

from benchmarks import dataloading, loading_setups
from benchmarks.worker_memory import Growth, measure_growth, resident
from mtl_plugins.task_specs import get_task_spec


@pytest.fixture(scope='module', autouse=True)
def small_images():
    """Stand-ins of few pixels."""
    whole = dict(loading_setups.SOURCES)
    for name, size in dict(nyud=(43, 56), pascal_context=(38, 50), taskonomy=(64, 64)).items():
        loading_setups.SOURCES[name] = dataclasses.replace(whole[name], size=size)
    yield
    loading_setups.SOURCES.update(whole)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('loading')


def both(name, folder, repeats=1):
    root = loading_setups.fixture(name, folder, 2)
    ours = loading_setups.our_dataset(name, root, folder, 2, repeats)
    return ours, loading_setups.stock_dataset(name, ours)


@pytest.mark.parametrize('name', loading_setups.SOURCES)
def test_both_sides_deliver_the_same_tasks_at_the_same_size(name, folder):
    ours, stock = both(name, folder)
    assert len(ours) == len(stock) == 2
    for position in range(4):
        mine = ours[loading_setups.position_of(position % 2, position)]
        with loading_setups.same_draws(position):
            other = stock[position % 2]
        assert mine['inputs'].shape == other['inputs'].shape
        assert mine['inputs'].dtype == other['inputs'].dtype
        assert sorted(mine['data_samples'].keys()) == sorted(other['data_samples'].keys())
        for key in mine['data_samples'].keys():  # noqa: SIM118 - it is no mapping
            a, b = (sample['data_samples'].get(key).data for sample in (mine, other))
            assert a.shape == b.shape, key
            if get_task_spec(key[3:]).is_categorical:
                assert set(np.unique(a)) <= {*range(40), 255}
                assert set(np.unique(b)) <= {*range(40), 255}


def test_same_draws_make_the_same_flips(folder):
    ours, stock = both('taskonomy', folder)
    flips = [[], []]
    for position in range(12):
        flips[0].append(ours[loading_setups.position_of(0, position)]['data_samples'].flip)
        with loading_setups.same_draws(position):
            flips[1].append(stock[0]['data_samples'].flip)
    assert flips[0] == flips[1]
    assert 0 < sum(flips[0]) < 12


def test_memory_of_workers_is_watched(folder):
    ours, _ = both('rooms', folder, repeats=16)
    assert len(ours) == 32
    seen = []
    growth = measure_growth(ours, 2, seen.append)
    assert seen == [8] * 8
    assert (growth.images, growth.workers) == (32, 2)
    assert growth.after_first > 20
    assert abs(growth.share) < 0.2


def test_resident_memory_follows_what_is_allocated():
    before = resident(os.getpid())
    block = np.ones(64 << 20, np.uint8)
    assert 50 < resident(os.getpid()) - before < 90
    del block


def test_command(folder, capsys):
    out = folder / 'figures.json'
    argv = ['--datasets', 'rooms', 'nyud', '--rounds', '2', '--images', '2', '--epoch-images', '0']
    code = dataloading.main([*argv, '--folder', str(folder), '--out', str(out)])
    rows = json.loads(out.read_text())
    assert [row['name'] for row in rows] == ['rooms', 'nyud']
    assert code == any(row['ratio']['median'] < 1 for row in rows)
    for row in rows:
        assert row['ours']['median'] > 0
        assert row['memory'] is None
    assert 'MultiTaskRandomScale' in rows[1]['steps']
    assert 'FastPhotoMetricDistortion' in rows[1]['steps']
    assert 'PhotoMetricDistortion' in rows[1]['stock_steps']
    text = capsys.readouterr().out
    assert 'Images per second and worker' in text


def test_targets_that_are_missed():
    spread = dataloading.Spread(2.0, 2.0, 2.0)
    good = dataloading.Row('a', 2, spread, spread, spread, {}, {}, Growth(100.0, 101.0, 0.1, 8, 1))
    slow = dataclasses.replace(good, name='b', ratio=dataloading.Spread(0.9, 0.8, 1.1), memory=None)
    grown = dataclasses.replace(good, name='c', memory=Growth(100.0, 103.0, 0.1, 8, 1))
    assert dataloading.missed_targets([good]) == []
    assert dataloading.missed_targets([slow, good, grown]) == [
        'b: 0.90 of stock',
        'c: memory of workers grows by 3.0%',
    ]


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['--rounds', '1'], '--rounds must be at least 2, but got 1'),
        (['--data-root', 'rooms=/data'], 'must be NAME=FOLDER with NAME one of nyud, pascal_context, taskonomy'),
        (['--datasets', 'cityscapes'], 'invalid choice'),
    ],
)
def test_wrong_arguments(argv, message, capsys):
    with pytest.raises(SystemExit):
        dataloading.parse(argv)
    assert message in ' '.join(capsys.readouterr().err.split())
