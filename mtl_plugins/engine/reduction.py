"""Averages over ranks, and decisions that all ranks share. Everything is the identity on one process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class Reducer:
    """The collectives of a training step.

    The wrappers run every forward under DDP's ``no_sync`` and reduce by themselves: DDP's own reducer gives silently
    wrong gradients for several backwards per forward, or needs a walk for unused parameters.

    Args:
        bucket_mb: Size of the flat fp32 buffer that gradients travel in, in MiB.
    """

    def __init__(self, bucket_mb: float = 32.0) -> None:
        self._bucket_elements = max(1, int(bucket_mb * 2**20 / 4))

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

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace ``.grad`` by its sum over ranks, for parameters that have one on any rank.

        A rank without a gradient contributes zeros. Parameters without a gradient on all ranks keep ``None``, so that
        the optimizer leaves them, their moments and their step counters alone.
        """
        if self.world_size == 1:
            return
        parameters = list(parameters)
        if not parameters:
            return
        has_grad = torch.tensor(
            [p.grad is not None for p in parameters], dtype=torch.int32, device=parameters[0].device
        )
        dist.all_reduce(has_grad, op=dist.ReduceOp.MAX)
        stepped = [p for p, flag in zip(parameters, has_grad.tolist()) if flag]
        bucket: list[torch.nn.Parameter] = []
        size = 0
        for parameter in stepped:
            if bucket and size + parameter.numel() > self._bucket_elements:
                self._sum_bucket(bucket)
                bucket, size = [], 0
            bucket.append(parameter)
            size += parameter.numel()
        if bucket:
            self._sum_bucket(bucket)

    @staticmethod
    def _sum_bucket(bucket: list[torch.nn.Parameter]) -> None:
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1).float() for p in bucket])
        dist.all_reduce(flat)
        for parameter, part in zip(bucket, flat.split([p.numel() for p in bucket])):
            summed = part.view_as(parameter).to(parameter.dtype)
            if parameter.grad is None:
                parameter.grad = summed.clone()
            else:
                parameter.grad.copy_(summed)
