"""Ranks that are threads of one process, for tests of what is exchanged."""

import threading
from collections import Counter
from types import SimpleNamespace

import torch


class Ranks:
    """Stands for ``torch.distributed`` with ``size`` ranks in one process.

    What an asynchronous exchange brings is NaN until it is waited for.
    """

    ReduceOp = torch.distributed.ReduceOp

    def __init__(self, size):
        self.size = size
        self.reduced = []
        self.dtypes = set()
        #: Bytes that a rank sends, by kind of exchange, as rings do it.
        self.sent = Counter()
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

    def all_reduce(self, tensor, op=ReduceOp.SUM, async_op=False):
        stack = torch.stack(self._exchange(tensor.clone()))
        if self._here.rank == 0 and op == self.ReduceOp.SUM:
            self.reduced.append(tensor.numel())
            self.dtypes.add(tensor.dtype)
        self._count('all_reduce', 2, tensor)
        return self._bring(tensor, stack.amax(0) if op == self.ReduceOp.MAX else stack.sum(0), async_op)

    @staticmethod
    def _bring(tensor, result, async_op):
        if not async_op:
            tensor.copy_(result)
            return None
        tensor.fill_(float('nan'))
        return SimpleNamespace(wait=lambda: tensor.copy_(result))

    def _count(self, name, rounds, whole):
        if self._here.rank == 0:
            self.sent[name] += rounds * whole.numel() * whole.element_size() * (self.size - 1) / self.size

    def reduce_scatter_tensor(self, part, whole, async_op=False):
        self._count('reduce_scatter', 1, whole)
        stack = torch.stack(self._exchange(whole.clone())).view(self.size, self.size, -1)
        return self._bring(part, stack[:, self._here.rank].sum(0), async_op)

    def all_gather_into_tensor(self, whole, part):
        whole.copy_(torch.cat(self._exchange(part.clone())))
        self._count('all_gather', 1, whole)

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
