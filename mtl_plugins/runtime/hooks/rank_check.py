"""A guard against processes that drift apart without anyone noticing."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from mmengine.dist import all_gather, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import Tensor

from mtl_plugins.errors import UserRuntimeError
from mtl_plugins.registry import HOOKS
from mtl_plugins.utils.argument_types import Checked, Count, Index

_CHUNK = 1 << 20
_FACTORS = (0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9, 0x14D049BB133111EB)  # odd, otherwise arbitrary
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class RankMismatchError(UserRuntimeError):
    """Processes of one run hold different parameters."""


def tensor_checksum(tensor: Tensor) -> Tensor:
    """Checksum of the exact bit pattern of a tensor.

    Each element's bits, as an integer, go with its position through a one-to-one scrambling of 64-bit integers (odd
    multipliers, shifts); the results are added, wrapping around. So a change of one element is always seen, and any
    other change with near certainty.

    Args:
        tensor: Any dense tensor.

    Returns:
        Tensor: 0-dimensional int64, on the tensor's device.
    """
    flat = tensor.detach().contiguous().view(-1)
    if flat.is_complex():
        flat = torch.view_as_real(flat).reshape(-1)
    bits = flat.view(_INTEGERS[flat.element_size()])
    total = torch.zeros((), dtype=torch.int64, device=bits.device)
    for start in range(0, bits.numel(), _CHUNK):  # in pieces, since int64 copies need room
        piece = bits[start : start + _CHUNK].to(torch.int64)
        position = torch.arange(start, start + piece.numel(), dtype=torch.int64, device=bits.device)
        mixed = (piece ^ (position * _FACTORS[0])) * _FACTORS[1]
        mixed = (mixed ^ ((mixed >> 32) & 0xFFFFFFFF)) * _FACTORS[2]  # the mask makes the shift a logical one
        total += (mixed ^ ((mixed >> 29) & 0x7FFFFFFFF)).sum()
    return total


@HOOKS.register_module()
class RankSyncCheckHook(Checked, Hook):
    """Compares the parameters of all processes bit by bit (through checksums) and stops the run when they differ.

    Does nothing in a run of one process.

    Args:
        interval: Iterations between two checks; there is also one before training and one after it.
        buffers: Whether to compare buffers too. Off by default, since BatchNorm's differ by design under DDP without
            broadcasting.
        show: How many differing parameters the error names.
    """

    priority = 'NORMAL'

    def __init__(self, interval: Count = 1000, buffers: bool = False, show: Index = 5) -> None:
        self.interval = interval
        self.buffers = buffers
        self.show = show

    def before_train(self, runner: Any) -> None:
        """Check the start values."""
        self.check(runner, 'before training')

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Check every ``interval`` iterations."""
        if self.every_n_train_iters(runner, self.interval):
            self.check(runner, f'after iteration {runner.iter + 1}')

    def after_train(self, runner: Any) -> None:
        """Check the result."""
        self.check(runner, 'after training')

    def check(self, runner: Any, moment: str) -> None:
        """Compare now; a collective call.

        Args:
            runner: The runner.
            moment: When this is, for the message.

        Raises:
            RankMismatchError: In every process, naming the first parameters that differ and who holds what.
        """
        if get_world_size() == 1:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        tensors = dict(model.named_parameters())
        if self.buffers:
            tensors.update(model.named_buffers())
        if not tensors:
            return
        sums = torch.stack([tensor_checksum(tensor).cpu() for tensor in tensors.values()])
        ranks = torch.stack(all_gather(sums))
        differing = (ranks != ranks[0]).any(dim=0).nonzero().flatten().tolist()
        if not differing:
            return
        names = list(tensors)
        lines = [f'  {names[index]}: {_camps(ranks[:, index].tolist())}' for index in differing[: self.show]]
        if len(differing) > self.show:
            lines.append(f'  ... and {len(differing) - self.show} more')
        raise RankMismatchError(
            f'{len(differing)} of {len(names)} parameters differ between the processes {moment}:\n'
            + '\n'.join(lines)
            + '\nResults from here on would be wrong. Usual causes: a decision or a random number that is not the same '
            'in every process, or a gradient that was not reduced. The last checkpoint may be affected too'
        )


def _camps(values: list[int]) -> str:
    members: dict[int, list[int]] = defaultdict(list)
    for rank, value in enumerate(values):
        members[value].append(rank)
    return ' differ from '.join(f'rank{"s" if len(r) > 1 else ""} {", ".join(map(str, r))}' for r in members.values())
