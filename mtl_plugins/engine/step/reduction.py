"""Averages over ranks, and decisions that all ranks share. Everything is the identity on one process."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .gradient_sums import GradientSums


class Reducer:
    """The collectives of a training step.

    The wrappers run every forward under DDP's ``no_sync`` and reduce by themselves: DDP's own reducer gives silently
    wrong gradients for several backwards per forward, or needs a walk for unused parameters.

    Args:
        bucket_mb: Size of the flat fp32 buffer that gradients travel in, in MiB.
    """

    def __init__(self, bucket_mb: float = 32.0) -> None:
        self._gradients = GradientSums(max(1, int(bucket_mb * 2**20 / 4)), self)
        #: Whether the model's backward exchanges something itself, as SyncBatchNorm does: then nothing else is sent
        #: while it runs, since ranks with different graphs would send in different orders.
        self.graph_communicates = False

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1

    @property
    def rank(self) -> int:
        """Index of this process."""
        return dist.get_rank() if self.world_size > 1 else 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def begin_sum(self, tensor: Tensor) -> dist.Work:
        """Begin to sum over ranks, in place; there are several."""
        return dist.all_reduce(tensor, async_op=True)

    def largest(self, tensor: Tensor) -> Tensor:
        """Take the maximum over ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor

    def scatter_sum(self, whole: Tensor, part: Tensor) -> dist.Work:
        """Begin to sum ``whole`` over ranks; ``part`` becomes this rank's stretch of it, ``1 / world_size`` as long."""
        return dist.reduce_scatter_tensor(part, whole, async_op=True)

    def gather(self, part: Tensor) -> Tensor:
        """The parts of all ranks, equally long, one after the other."""
        whole = part.new_empty(self.world_size * len(part))
        dist.all_gather_into_tensor(whole, part)
        return whole

    def differs(self, number: int, device: torch.device) -> bool:
        """Whether a whole number is another on some rank."""
        if self.world_size == 1:
            return False
        largest, smallest = self.largest(torch.tensor([number, -number], dtype=torch.int64, device=device)).tolist()
        return largest != -smallest

    def gather_objects(self, value: Any) -> list[Any]:
        """The picklable ``value`` of every rank, in rank order."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def broadcast_ints(self, values: Sequence[int], device: torch.device) -> list[int]:
        """Rank 0's integers; every rank must pass the same number of them."""
        if self.world_size == 1:
            return list(values)
        tensor = torch.tensor(list(values), dtype=torch.int64, device=device)
        dist.broadcast(tensor, src=0)
        return tensor.tolist()

    def broadcast(self, values: Tensor, device: torch.device) -> Tensor:
        """Rank 0's tensor; every rank passes one of the same shape and type, and gets it on its own device."""
        if self.world_size == 1:
            return values
        sent = values.to(device)
        dist.broadcast(sent, src=0)
        return sent.to(values.device)

    def broadcast_all(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor by rank 0's, in place."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def during_backward(
        self, parameters: Iterable[nn.Parameter], tasks: Iterable[str], here: Iterable[str]
    ) -> AbstractContextManager[None]:
        """A context for one backward whose gradients are sent while it goes on; :meth:`sum_gradients` has to follow.

        What lies in ``.grad`` already is sent as well. Between the two calls ``.grad`` is incomplete.

        Args:
            parameters: As for :meth:`sum_gradients`.
            tasks: Tasks that are differentiated on some rank; the same on all ranks.
            here: Those that are differentiated on this one.
        """
        overlaps = self.world_size > 1 and not self.graph_communicates
        return self._gradients.during(parameters, tasks, here) if overlaps else nullcontext()

    def sum_gradients(self, parameters: Iterable[nn.Parameter], news: bool = False) -> bool:
        """Replace ``.grad`` by its sum over ranks, for parameters that have one on any rank.

        A rank without a gradient contributes zeros. Parameters without a gradient on all ranks keep ``None``, so that
        the optimizer leaves them, their moments and their step counters alone.

        Args:
            parameters: The same on all ranks.
            news: Something that all ranks should know if it is so on one.

        Returns:
            Whether there are news on any rank.
        """
        parameters = list(parameters)
        if self.world_size == 1 or not parameters:
            return news
        return self._gradients.finish(parameters, news)
