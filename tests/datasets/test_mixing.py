from collections import Counter
from unittest import mock

import numpy as np
import pytest
import torch
from mmengine.dataset import RepeatDataset

from mtl_plugins.datasets import MixedSampler, MultiTaskConcatDataset, RoomsDataset
from mtl_plugins.datasets.covering import TaskCover
from mtl_plugins.datasets.presence import sample_tasks
from mtl_plugins.registry import DATA_SAMPLERS

from .test_concat import dataset
from .test_samplers import Positions, plain, take
from .test_samplers import batches as plain_batches

SIZES = (40, 8, 16)


@pytest.fixture(scope='module')
def joint():
    return MultiTaskConcatDataset([dataset((task,), size) for task, size in zip(('depth', 'sal', 'edge'), SIZES)])


class Labelled(Positions):
    """Samples with the labels that are told, as datasets of files tell it."""

    def __init__(self, labels):
        self.labels = labels
        super().__init__(len(labels), metainfo=dict(tasks=tuple(dict.fromkeys(t for row in labels for t in row))))

    def get_data_info(self, idx):
        return {**super().get_data_info(idx), 'files': dict.fromkeys(self.labels[int(idx)], 'path')}


def random_labels(size, tasks, probability, seed=0):
    random = np.random.default_rng(seed)
    rows = [[task for task in tasks if random.random() < probability] or [tasks[0]] for _ in range(size)]
    return [*rows, list(tasks)]


def source(index):
    return sum(index >= first for first in np.cumsum(SIZES))


def sampler_of_rank(data, rank, world, **kwargs):
    with mock.patch('mtl_plugins.datasets.samplers.get_dist_info', return_value=(rank, world)):
        return MixedSampler(data, **kwargs)


def test_proportional_epochs_are_permutations(joint):
    stream = take(MixedSampler(joint, seed=1), 5 * 64)
    assert [position for _, position in stream] == list(range(5 * 64))
    epochs = [tuple(index for index, _ in stream[k : k + 64]) for k in range(0, 5 * 64, 64)]
    assert all(sorted(epoch) == list(range(64)) for epoch in epochs)
    assert len(set(epochs)) == 5


@pytest.mark.parametrize(
    ('mixing', 'shares'),
    [
        ('proportional', (40, 8, 16)),
        ('balanced', (64 / 3,) * 3),
        ((1, 1, 2), (16, 16, 32)),
        ([2, 0.5, 1.5], (32, 8, 24)),
    ],
)
def test_every_stretch_has_the_shares(joint, mixing, shares):
    sources = [source(index) for index, _ in take(MixedSampler(joint, mixing, seed=2), 640)]
    for start in range(0, 600, 7):
        counts = Counter(sources[start : start + 32])
        assert all(abs(counts[number] - share / 2) <= 2.5 for number, share in enumerate(shares))


@pytest.mark.parametrize('mixing', ['proportional', 'balanced', (1, 5, 2)])
def test_samples_of_a_data_set_come_equally_often(joint, mixing):
    counts = Counter(index for index, _ in take(MixedSampler(joint, mixing, seed=3), 64 * 30))
    for number, (first, size) in enumerate(zip((0, 40, 48), SIZES)):
        times = [counts[index] for index in range(first, first + size)]
        assert max(times) - min(times) <= 1, number


def test_without_shuffling_the_order_is_fixed(joint):
    stream = [index for index, _ in take(MixedSampler(joint, shuffle=False), 128)]
    assert stream[:64] == stream[64:]
    assert [index for index in stream[:64] if index < 40] == list(range(40))


@pytest.mark.parametrize('options', [dict(), dict(mixing='balanced'), dict(mixing='balanced', cover=8)])
@pytest.mark.parametrize('world', [1, 2, 3])
def test_ranks_together_are_the_stream_of_one_process(joint, options, world):
    alone = take(MixedSampler(joint, seed=1, **options), 180)
    ranks = [take(sampler_of_rank(joint, rank, world, seed=1, **options), 180 // world) for rank in range(world)]
    assert sorted((entry for rank in ranks for entry in rank), key=lambda entry: entry[1]) == alone


@pytest.mark.parametrize('options', [dict(), dict(mixing='balanced', cover=6)])
def test_skip_is_absolute(joint, options):
    whole = take(MixedSampler(joint, seed=2, **options), 300)
    resumed = MixedSampler(joint, seed=2, **options)
    for skip in (0, 1, 63, 64, 66, 200):
        resumed.skip(skip)
        assert take(resumed, 80) == whole[skip : skip + 80]
    resumed.skip(10**12)
    assert take(resumed, 1)[0][1] == 10**12


@pytest.mark.parametrize('workers', [0, 2])
def test_resume_equals_uninterrupted(joint, workers):
    with mock.patch('tests.datasets.test_samplers.AbsoluteSampler', MixedSampler):
        whole = plain(plain_batches(joint, 0, 12, batch_size=8))
        assert plain(plain_batches(joint, workers, 5, batch_size=8, skip=7)) == whole[7:]


def missing_tasks(data, stream, block):
    carried = sample_tasks(data)[1]
    runs = [stream[start : start + block] for start in range(0, len(stream) - block + 1, block)]
    return sum((~carried[[index for index, _ in run]].any(0)).sum() for run in runs)


@pytest.mark.parametrize('probability', [0.5, 0.25, 0.05])
@pytest.mark.parametrize('cover', [4, 8])
def test_every_run_carries_every_task(probability, cover):
    data = Labelled(random_labels(60, ['depth', 'sal', 'edge', 'normals'], probability))
    without = take(MixedSampler(data, seed=0), 610)
    stream = take(MixedSampler(data, cover=cover, seed=0), 640)
    assert missing_tasks(data, without, cover) > 0
    assert missing_tasks(data, stream, cover) == 0
    # Nobody is left out for good.
    assert {index for index, _ in stream} == set(range(61))


def test_cover_keeps_epochs_whole_where_labels_suffice():
    data = Labelled(random_labels(63, ['depth', 'sal', 'edge', 'normals'], 0.5))
    stream = take(MixedSampler(data, cover=8, seed=0), 640)
    for start in range(0, 640, 64):
        assert sorted(index for index, _ in stream[start : start + 64]) == list(range(64))


def test_a_single_sample_with_a_rare_label_comes_in_every_run():
    data = Labelled([['depth']] * 30 + [['sal']])
    stream = [index for index, _ in take(MixedSampler(data, cover=4, seed=0), 320)]
    assert all(30 in stream[start : start + 4] for start in range(0, 320, 4))
    # The places of a sample in its run are drawn, so that no rank always gets the rare one.
    assert len({stream[start : start + 4].index(30) for start in range(0, 320, 4)}) == 4


def test_runs_that_are_as_short_as_possible():
    data = Labelled([['depth', 'sal'], ['edge', 'normals']] * 3 + [['depth'], ['edge'], ['sal'], ['normals']])
    stream = take(MixedSampler(data, cover=2, seed=0), 200)
    assert missing_tasks(data, stream, 2) == 0
    assert len({index for index, _ in stream}) >= 6


def test_data_sets_in_every_run(joint):
    stream = take(MixedSampler(joint, cover=4, seed=5), 640)
    assert missing_tasks(joint, stream, 4) == 0


def test_what_samples_carry(tmp_path):
    subset = dict(type='mtl_plugins.RandomLabelSubset', tasks=('depth', 'sal', 'edge'))
    load = dict(type='mtl_plugins.LoadCachedSample')
    pack = dict(type='mtl_plugins.PackMultiTaskInputs')
    rooms = RoomsDataset('train', 9, (16, 16), ('depth', 'sal'), cache_dir=tmp_path, pipeline=[load, subset, pack])
    data = MultiTaskConcatDataset([rooms, RepeatDataset(Labelled([['depth'], ['edge', 'sal']]), 2)])
    tasks, carried = sample_tasks(data)
    assert tasks == ('depth', 'sal', 'edge')
    expected = [[f'gt_{task}' in rooms[index]['data_samples'] for task in tasks] for index in range(9)] + [
        [True, False, False],
        [False, True, True],
    ] * 2
    assert carried.tolist() == expected
    assert 0 < carried[:9].sum() < 18


def test_the_global_generators_are_left_alone(joint):
    state = torch.get_rng_state()
    take(MixedSampler(joint, 'balanced', cover=4, seed=0), 100)
    assert torch.equal(state, torch.get_rng_state())


def test_built_from_the_registry(joint):
    cfg = dict(type='mtl_plugins.MixedSampler', mixing='balanced', cover=4)
    sampler = DATA_SAMPLERS.build(cfg, default_args=dict(dataset=joint, seed=4))
    assert take(sampler, 9) == take(MixedSampler(joint, 'balanced', 4, seed=4), 9)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            dict(mixing='equal'),
            r"one of \('proportional', 'balanced'\) or a list of numbers > 0, but got 'equal'",
        ),
        (dict(mixing=3), 'or a list of numbers > 0, but got 3'),
        (dict(mixing=[1, 2]), r'or 3 positive numbers, .* but got \[1, 2\]'),
        (dict(mixing=[1, 2, 0]), r'but got \[1, 2, 0\]'),
        (dict(mixing=[1, 1e-9, 1]), r'has none of datasets\[1\]; give it a larger weight'),
        (dict(cover=0), 'cover must be an integer >= 1 or None, but got 0'),
        (dict(cover=2.0), 'cover must be an integer >= 1 or None, but got 2.0'),
        (dict(cover=2), 'so few samples cannot carry all of depth, sal, edge; 3 are needed'),
    ],
)
def test_mistakes_are_named(joint, options, message):
    with pytest.raises(ValueError, match=message):
        MixedSampler(joint, seed=0, **options)


def test_a_task_without_samples_is_named():
    with pytest.raises(ValueError, match='no sample carries sal; leave it out of the tasks'):
        TaskCover(('depth', 'sal'), np.array([[True, False]]), 2)


def test_data_sets_that_do_not_tell_their_tasks_cannot_be_covered():
    with pytest.raises(ValueError, match='Positions does not say which tasks its samples carry'):
        MixedSampler(Positions(3), cover=2)
    assert len(take(MixedSampler(Positions(3), seed=0), 6)) == 6
