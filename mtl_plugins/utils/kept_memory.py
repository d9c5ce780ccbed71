"""Memory on the CPU that the large tensors of a training step take again in the next one."""

from __future__ import annotations

import os
import sys
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor

_all: WeakSet[KeptMemory] = WeakSet()


class KeptMemory:
    """Memory that goes from one tensor to the next.

    Torch gives large tensors back to the system at once on a CPU, and the system clears each page anew when it is next
    touched, which for rows of hundreds of MB takes as long as some of a step's arithmetic. On a GPU torch itself keeps
    what was freed.
    """

    def __init__(self) -> None:
        self._bytes: np.ndarray | None = None
        _all.add(self)

    def zeros(self, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """As ``torch.zeros``; in the memory that is kept, unless something still looks at the last tensor there.

        Args:
            size: Number of entries.
            dtype: Of the entries.
            device: Where to.
        """
        count = size * dtype.itemsize
        if device.type != 'cpu' or not count or self._in_use():
            return torch.zeros(size, dtype=dtype, device=device)
        kept = self._bytes
        if kept is None or kept.nbytes != count:
            kept = self._bytes = None
            kept = self._bytes = torch.empty(count, dtype=torch.uint8, device=device).numpy()
        return torch.from_numpy(kept).view(dtype).zero_()

    def __reduce__(self) -> tuple[type[KeptMemory], tuple[()]]:
        """A copy, or what is read from a pickle, begins with nothing: what lies here is no state."""
        return KeptMemory, ()

    def _in_use(self) -> bool:
        # A tensor made of an array refers to it as long as one of its views lives. The two others are this object and
        # the call's argument.
        return self._bytes is not None and sys.getrefcount(self._bytes) > 2


def release() -> None:
    """Give back what is kept, where it would not be taken again soon or a measurement has to see what a step takes."""
    for memory in _all:
        memory._bytes = None


# A process that is forked, such as a worker that loads data, would hold it as long as it lives.
os.register_at_fork(before=release)
