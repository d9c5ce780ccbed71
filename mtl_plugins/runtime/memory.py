"""How much memory a piece of code needs at its peak."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from mtl_plugins.utils import kept_memory


class PeakMemory:
    """Measures inside its context.

    On a GPU that is what torch's allocator reports. On a CPU it is the largest sum of live tensor bytes, from the
    allocations and frees that torch's profiler records: exact and repeatable, where the resident size of the process
    depends on how the C library reuses freed pages. Scratch space inside the matrix libraries is not seen.

    Attributes:
        extra: Bytes at the peak beyond those at the start.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.extra = 0

    def __enter__(self) -> PeakMemory:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        else:
            kept_memory.release()
            self._profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
            self._profiler.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
            self.extra = torch.cuda.max_memory_allocated(self.device) - self._before
            return
        self._profiler.stop()
        live = 0
        events = [event for event in self._profiler.profiler.kineto_results.events() if event.name() == '[memory]']
        for event in sorted(events, key=lambda event: event.start_ns()):
            live += event.nbytes()
            self.extra = max(self.extra, live)


def tensor_bytes(value: Any) -> int:
    """Bytes of all tensors in a nested structure of dicts and sequences."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(tensor_bytes, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(tensor_bytes, value))
    return 0


def format_bytes(count: float) -> str:
    """A size in MB or GB (powers of ten)."""
    return f'{count / 1e9:.2f} GB' if count >= 1e9 else f'{count / 1e6:.1f} MB'
