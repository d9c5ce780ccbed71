"""The collectives of a step, on ranks that are threads."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mtl_plugins.engine.step import reduction
from mtl_plugins.engine.step.gradients import ParameterSplit
from mtl_plugins.engine.step.reduction import Reducer
from tests.support.thread_ranks import Ranks

SIZES = [(3, 2), (5,), (2, 2, 1, 1), (), (4,)]


@pytest.fixture(params=[2, 3])
def ranks(request, monkeypatch):
    world = Ranks(request.param)
    monkeypatch.setattr(reduction, 'dist', world)
    return world


def gradients_of(rank):
    """Per parameter: on all ranks, on one, on none; the last on all again."""
    generator = torch.Generator().manual_seed(rank)
    drawn = [torch.randn(size, generator=generator) for size in SIZES]
    drawn[1] = drawn[1] if rank == 1 else None
    drawn[2] = None
    drawn[3] = drawn[3] if rank == 0 else None
    return drawn


@pytest.mark.parametrize('elements', [1, 7, 10, 11, 1000])
def test_gradients_are_summed_once_however_they_are_packed(ranks, elements):
    def job(rank):
        parameters = [nn.Parameter(torch.zeros(size)) for size in SIZES]
        for parameter, gradient in zip(parameters, gradients_of(rank)):
            parameter.grad = gradient
        assert Reducer(bucket_mb=elements * 4 / 2**20).sum_gradients(iter(parameters)) is False
        return [parameter.grad for parameter in parameters]

    found = ranks.run(job)
    parts = zip(*(gradients_of(rank) for rank in range(ranks.size)))
    for index, each in enumerate(parts):
        there = [gradient for gradient in each if gradient is not None]
        for gradients in found:
            if there:
                torch.testing.assert_close(gradients[index], sum(there))
            else:
                assert gradients[index] is None
    # As few messages as fit the size, none beyond it but for a parameter that is larger itself.
    stepped, expected = [6, 5, 1, 4], []
    for numel in stepped:
        if expected and expected[-1] + numel <= elements:
            expected[-1] += numel
        else:
            expected.append(numel)
    assert ranks.reduced == expected


def test_parameters_of_16_bits_are_summed_in_32(ranks):
    def job(rank):
        parameter = nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
        parameter.grad = torch.tensor([1.0, 2.0**-7], dtype=torch.bfloat16) * (rank + 1)
        Reducer().sum_gradients([parameter])
        assert Reducer().sum_gradients([]) is False
        return parameter.grad

    total = sum(range(1, ranks.size + 1))
    for gradient in ranks.run(job):
        assert gradient.dtype == torch.bfloat16
        assert gradient.tolist() == [total, total * 2.0**-7]
    assert ranks.dtypes == {torch.float32}


@pytest.mark.parametrize('who', [None, 0, 1])
def test_news_of_one_rank_reach_all(ranks, who):
    def job(rank):
        return Reducer().sum_gradients([nn.Parameter(torch.zeros(2))], news=rank == who)

    assert ranks.run(job) == [who is not None] * ranks.size


@pytest.mark.parametrize('who', [None, 0, 1])
def test_gradients_found_on_one_rank_are_known_to_all(ranks, who):
    def job(rank):
        split = ParameterSplit(Reducer())
        # A task in which nothing was found stands beside one in which something was.
        found = {'a': {}, 'b': {nn.Parameter(torch.zeros(1)): torch.zeros(1)} if rank == who else {}}
        flat = torch.tensor([1.0, -2.0, 0.0])
        known = split.any_found(flat, found)
        return known, flat[:-1].tolist()

    assert ranks.run(job) == [(who is not None, [1.0 * ranks.size, -2.0 * ranks.size])] * ranks.size


def test_all_ranks_get_what_rank_0_decides_and_what_all_have(ranks):
    def job(rank):
        reducer, here = Reducer(), torch.device('cpu')
        buffers = [torch.full((2,), float(rank)), torch.tensor(rank)]
        reducer.broadcast_all(buffers)
        number = torch.tensor([rank + 1.0])
        assert reducer.sum(number) is number
        return dict(
            size=reducer.world_size,
            rank=reducer.rank,
            sum=number.item(),
            ints=reducer.broadcast_ints([rank, 7], here),
            tensor=reducer.broadcast(torch.tensor([rank + 0.5]), here).tolist(),
            buffers=[buffer.tolist() for buffer in buffers],
            objects=reducer.gather_objects({'rank': rank}),
        )

    for rank, found in enumerate(ranks.run(job)):
        assert found == dict(
            size=ranks.size,
            rank=rank,
            sum=sum(range(1, ranks.size + 1)),
            ints=[0, 7],
            tensor=[0.5],
            buffers=[[0.0, 0.0], 0],
            objects=[{'rank': each} for each in range(ranks.size)],
        )


def test_one_process_exchanges_nothing(monkeypatch):
    monkeypatch.setattr(reduction, 'dist', SimpleNamespace(is_available=lambda: False))
    reducer, parameter = Reducer(), nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    assert reducer.sum_gradients([parameter]) is False
    assert reducer.sum_gradients([parameter], news=True) is True
    assert reducer.sum_gradients(iter([]), news=True) is True
    assert parameter.grad.tolist() == [1, 1]
    reducer.broadcast_all([parameter.grad])
    split = ParameterSplit(reducer)
    for found in ({}, {'a': {}, 'b': {parameter: parameter.grad}}):
        flat = torch.tensor([5.0, -1.0])
        assert split.any_found(flat, found) is bool(found)
        assert flat[0] == 5
    assert (reducer.world_size, reducer.rank, reducer.gather_objects('x')) == (1, 0, ['x'])
    assert reducer.broadcast_ints(range(3), torch.device('cpu')) == [0, 1, 2]
