"""How much memory a piece of code needs at its peak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_STATUS, _RESET = Path('/proc/self/status'), Path('/proc/self/clear_refs')


class PeakMemory:
    """Measures inside its context.

    On a GPU that is what torch allocates; on the CPU the resident memory of the process, whose high-water mark Linux
    lets a process reset. Elsewhere nothing is measured.

    Attributes:
        extra: Bytes at the peak beyond those at the start, None if it could not be measured.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.extra: int | None = None
        self._before: int | None = None

    def __enter__(self) -> PeakMemory:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        else:
            try:
                _RESET.write_text('5')
                self._before = _resident('VmRSS')
            except OSError:
                self._before = None
        return self

    def __exit__(self, *_: Any) -> None:
        if self._before is None:
            return
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
            peak = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = _resident('VmHWM')
        self.extra = None if peak is None else max(0, peak - self._before)


def _resident(entry: str) -> int | None:
    for line in _STATUS.read_text(encoding='utf-8').splitlines():
        if line.startswith(f'{entry}:'):
            return int(line.split()[1]) * 1024
    return None


def tensor_bytes(value: Any) -> int:
    """Bytes of all tensors in a nested structure of dicts and sequences."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(tensor_bytes, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(tensor_bytes, value))
    return 0


def format_bytes(count: float | None) -> str:
    """A size in MB or GB (powers of ten)."""
    if count is None:
        return 'not measured'
    return f'{count / 1e9:.2f} GB' if count >= 1e9 else f'{count / 1e6:.1f} MB'
