"""The collectives of a step, on ranks that are threads."""

import threading
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mtl_plugins.engine import reduction
from mtl_plugins.engine.reduction import Reducer

SIZES = [(3, 2), (5,), (2, 2, 1, 1), (), (4,)]


class Ranks:
    """Stands for ``torch.distributed`` with ``size`` ranks in one process."""

    ReduceOp = torch.distributed.ReduceOp

    def __init__(self, size):
        self.size = size
        self.reduced = []
        self._here = threading.local()
        self._slots = [None] * size
        self._barrier = threading.Barrier(size, timeout=60)

    is_available = is_initialized = staticmethod(lambda: True)

    def get_world_size(self):
        return self.size

    def get_rank(self):
        return self._here.rank

    def _exchange(self, value):
        self._slots[self._here.rank] = value
        self._barrier.wait()
        values = list(self._slots)
        self._barrier.wait()
        return values

    def all_reduce(self, tensor, op=ReduceOp.SUM):
        stack = torch.stack(self._exchange(tensor.clone()))
        if self._here.rank == 0 and op == self.ReduceOp.SUM:
            self.reduced.append(tensor.numel())
        tensor.copy_(stack.amax(0) if op == self.ReduceOp.MAX else stack.sum(0))

    def broadcast(self, tensor, src):
        tensor.copy_(self._exchange(tensor.clone())[src])

    def all_gather_object(self, values, value):
        values[:] = self._exchange(value)

    def run(self, job):
        """What ``job(rank)`` returns on each rank."""
        results = [None] * self.size

        def work(rank):
            self._here.rank = rank
            try:
                results[rank] = job(rank)
            except BaseException:
                self._barrier.abort()
                raise

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


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
        kept = parameters[0].grad
        assert Reducer(bucket_mb=elements * 4 / 2**20).sum_gradients(parameters) is False
        assert parameters[0].grad is kept
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
        Reducer().sum_gradients([parameter, nn.Parameter(torch.zeros(1))])
        return parameter.grad

    total = sum(range(1, ranks.size + 1))
    for gradient in ranks.run(job):
        assert gradient.dtype == torch.bfloat16
        assert gradient.tolist() == [total, total * 2.0**-7]


@pytest.mark.parametrize('who', [None, 0, 1])
def test_news_of_one_rank_reach_all(ranks, who):
    def job(rank):
        return Reducer().sum_gradients([nn.Parameter(torch.zeros(2))], news=rank == who)

    assert ranks.run(job) == [who is not None] * ranks.size


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
    assert parameter.grad.tolist() == [1, 1]
    assert (reducer.world_size, reducer.rank, reducer.gather_objects('x')) == (1, 0, ['x'])
    assert reducer.broadcast_ints(range(3), torch.device('cpu')) == [0, 1, 2]
