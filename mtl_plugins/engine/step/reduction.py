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
        ends = torch.tensor([number, -number], dtype=torch.int64, device=device)
        dist.all_reduce(ends, op=dist.ReduceOp.MAX)
        largest, smallest = ends.tolist()
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

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter], news: bool = False) -> bool:
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
        has_grad = torch.tensor(
            [*(p.grad is not None for p in parameters), news], dtype=torch.int32, device=parameters[0].device
        )
        dist.all_reduce(has_grad, op=dist.ReduceOp.MAX)
        *flags, any_news = has_grad.tolist()
        stepped = [p for p, flag in zip(parameters, flags) if flag]
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
        return bool(any_news)

    @staticmethod
    def _sum_bucket(bucket: list[torch.nn.Parameter]) -> None:
        parts = [_flat(torch.zeros_like(p) if p.grad is None else p.grad) for p in bucket]
        flat = torch.cat(parts)
        dist.all_reduce(flat)
        for parameter, part in zip(bucket, flat.split([len(part) for part in parts])):
            if parameter.is_complex():
                part = torch.view_as_complex(part.view(*parameter.shape, 2).clone())
            summed = part.view_as(parameter).to(parameter.dtype)
            if parameter.grad is None:
                parameter.grad = laid_out_as(parameter, summed.clone())
            else:
                parameter.grad.copy_(summed)


def _flat(gradient: Tensor) -> Tensor:
    return (torch.view_as_real(gradient) if gradient.is_complex() else gradient).reshape(-1).float()


def laid_out_as(parameter: Tensor, values: Tensor) -> Tensor:
    """``values`` in the shape, dtype and strides of ``parameter``, without a copy where they are so already.

    A fused optimizer reads weights and gradients in the order of memory: with other strides, as the channels_last
    format has them, it would step every weight by the gradient of another.
    """
    if values.is_sparse:
        return values
    values = values.view(parameter.shape)
    if values.dtype == parameter.dtype and values.stride() == parameter.stride():
        return values
    # Has the parameter's strides, unless it is itself a view with holes.
    like = torch.empty_like(parameter)
    return values if values.dtype == like.dtype and values.stride() == like.stride() else like.copy_(values)
