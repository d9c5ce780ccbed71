import copy
import os
import pickle
from unittest import mock

import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset, pseudo_collate
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader

from mtl_plugins.datasets.samplers import AbsoluteSampler, SamplePosition
from mtl_plugins.registry import DATA_SAMPLERS


def take(sampler, n):
    return [(int(p), p.position) for p, _ in zip(sampler, range(n))]


def sampler_of_rank(size, rank, world, **kwargs):
    with mock.patch('mtl_plugins.datasets.samplers.get_dist_info', return_value=(rank, world)):
        return AbsoluteSampler(range(size), **kwargs)


class Positions(BaseDataset):
    """Each sample is what a pipeline sees of it: index, position and worker."""

    def __init__(self, size, **kwargs):
        self.size = size
        super().__init__(**kwargs)

    def load_data_list(self):
        return [dict(value=i * i) for i in range(self.size)]

    def prepare_data(self, idx):
        info = self.get_data_info(idx)
        return dict(
            index=int(info['sample_idx']), position=info['sample_idx'].position, value=info['value'], pid=os.getpid()
        )


def batches(dataset, num_workers, count, skip=0, batch_size=3, seed=5):
    loader = DataLoader(
        dataset,
        sampler=AbsoluteSampler(dataset, seed=seed),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=pseudo_collate,
    )
    stream = _InfiniteDataloaderIterator(loader)  # what IterBasedTrainLoop wraps around the loader
    stream.skip_iter(skip)
    return [next(stream) for _ in range(count)]


def plain(many):
    return [{k: v for k, v in b.items() if k != 'pid'} for b in many]


def test_position_is_an_int_that_survives_what_datasets_do_with_it():
    p = SamplePosition(7, 1234)
    assert p == 7
    assert [10, 11, 12, 13, 14, 15, 16, 17][p] == 17
    assert f'{p} {p:03d} {p!s}' == '7 007 7'
    for other in (pickle.loads(pickle.dumps(p)), copy.copy(p), copy.deepcopy(p), copy.deepcopy([p])[0]):
        assert (other, other.position) == (7, 1234)
    assert ((p - 5), (p - 5).position) == (2, 1234)
    assert ((p % 4), (p % 4).position) == (3, 1234)


@pytest.mark.parametrize(
    ('wrapped', 'indices'),
    [
        (lambda: ConcatDataset([Positions(4), Positions(3)]), [0, 1, 2, 3, 0, 1, 2]),
        (lambda: RepeatDataset(Positions(3), 2), [0, 1, 2, 0, 1, 2]),
    ],
)
def test_position_reaches_the_dataset_through_wrappers(wrapped, indices):
    dataset, n = wrapped(), len(indices)
    seen = [dataset[p] for p, _ in zip(AbsoluteSampler(dataset, shuffle=False), range(2 * n))]
    assert [s['position'] for s in seen] == list(range(2 * n))
    assert [s['index'] for s in seen] == indices * 2


@pytest.mark.parametrize('shuffle', [True, False])
def test_each_epoch_is_a_permutation(shuffle):
    stream = take(AbsoluteSampler(range(7), shuffle=shuffle, seed=3), 70)
    assert [p for _, p in stream] == list(range(70))
    epochs = [tuple(i for i, _ in stream[k : k + 7]) for k in range(0, 70, 7)]
    assert all(sorted(e) == list(range(7)) for e in epochs)
    assert len(set(epochs)) == (10 if shuffle else 1)


def test_seeds_give_different_streams_and_do_not_share_epochs():
    def epochs(seed):
        stream = take(AbsoluteSampler(range(50), seed=seed), 250)
        return {tuple(i for i, _ in stream[k : k + 50]) for k in range(0, 250, 50)}

    assert epochs(0) == epochs(0)
    assert not epochs(0) & epochs(1)


@pytest.mark.parametrize('world', [1, 2, 3, 4])
def test_ranks_together_are_the_stream_of_one_process(world):
    # 10 samples: not a multiple of 3 or 4, so ranks meet epoch ends in the middle
    alone = take(AbsoluteSampler(range(10), seed=1), 60)
    ranks = [take(sampler_of_rank(10, r, world, seed=1), 60 // world) for r in range(world)]
    assert sorted((s for r in ranks for s in r), key=lambda s: s[1]) == alone
    # batch i of all ranks together is batch i of one process with the joint batch
    for i in range(0, 60 // world - 1, 2):
        joint = {s for r in ranks for s in r[i : i + 2]}
        assert joint == set(alone[i * world : (i + 2) * world])


@pytest.mark.parametrize('world', [1, 2])
@pytest.mark.parametrize('skip', [0, 1, 4, 5, 9, 23])
def test_skip_is_absolute_and_repeatable(world, skip):
    for rank in range(world):
        whole = take(sampler_of_rank(9, rank, world, seed=2), 40)
        resumed = sampler_of_rank(9, rank, world, seed=2)
        resumed.skip(skip)
        assert take(resumed, 10) == whole[skip : skip + 10]
        assert take(resumed, 10) == whole[skip : skip + 10]  # a new iterator starts there again
        resumed.skip(skip)
        assert take(resumed, 10) == whole[skip : skip + 10]


def test_skip_far_is_immediate():
    sampler = AbsoluteSampler(range(1000), seed=0)
    sampler.skip(10**15)
    assert [p for _, p in take(sampler, 2)] == [10**15, 10**15 + 1]


def test_drawing_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    take(AbsoluteSampler(range(5), seed=0), 30)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize('resume_workers', [0, 2])
@pytest.mark.parametrize('at', [1, 3, 4])
def test_resume_equals_uninterrupted_for_any_number_of_workers(resume_workers, at):
    dataset = Positions(10)
    whole = plain(batches(dataset, 0, 12))
    assert plain(batches(dataset, resume_workers, 12 - at, skip=at)) == whole[at:]


def test_number_of_workers_does_not_change_the_data():
    dataset = Positions(10)
    zero, two = batches(dataset, 0, 8), batches(dataset, 2, 8)
    assert plain(zero) == plain(two)
    assert {p for b in zero for p in b['pid']} == {os.getpid()}
    assert os.getpid() not in {p for b in two for p in b['pid']}


def test_seed_none_draws_one():
    a, b = AbsoluteSampler(range(10)), AbsoluteSampler(range(10))
    assert isinstance(a.seed, int)
    b.seed = a.seed
    assert take(a, 30) == take(b, 30)


def test_built_from_the_registry_as_the_runner_does():
    sampler = DATA_SAMPLERS.build(dict(type='mtl_plugins.AbsoluteSampler'), default_args=dict(dataset='abc', seed=4))
    assert (len(sampler), sampler.seed) == (3, 4)
    sampler.set_epoch(3)
    assert take(sampler, 5) == take(AbsoluteSampler('abc', seed=4), 5)


def test_errors():
    with pytest.raises(ValueError, match=r'dataset \(list\) is empty.*check its root and split'):
        AbsoluteSampler([])
    with pytest.raises(ValueError, match='num_samples must be 0 or more, but got -1'):
        AbsoluteSampler('ab', seed=0).skip(-1)
