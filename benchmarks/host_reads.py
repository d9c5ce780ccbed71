"""Counting how often the host waits for a value that was computed on the device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

_READS = {
    Tensor.item, Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.nonzero, Tensor.unique, Tensor.__bool__,
    Tensor.__int__, Tensor.__float__, Tensor.__index__, Tensor.masked_select, torch.nonzero, torch.unique,
    torch.masked_select, torch.equal, torch.allclose,
}  # fmt: skip


class HostReads(TorchFunctionMode):
    """Counts reads of device values, on a CPU too.

    On a CPU everything lives in one memory, so a read is counted if the value *would* be on the device: if it was
    computed, over any number of steps, from one of ``roots``. Other values (step counters of Adam, the K x K affinity)
    are the host's own. What becomes a parameter's ``.grad``, which a backward writes to, is on the device, and so is
    the memory of which a device value is a view. Reads inside compiled code and by autograd are not seen; torch has
    none in a training step.

    Args:
        roots: What lives on the device: parameters, buffers, images, targets.
    """

    def __init__(self, roots: Iterable[Tensor]) -> None:
        super().__init__()
        self.count = 0
        self._on_device = WeakIdKeyDictionary()
        for root in roots:
            self._on_device[root] = True

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Follow one call."""
        kwargs = kwargs or {}
        if func is Tensor.grad.__set__ and isinstance(args[1], Tensor) and args[0] in self._on_device:
            self._note(args[1])
        from_device = any(
            tensor in self._on_device or _memory(tensor) in self._on_device for tensor in _tensors((args, kwargs))
        )
        read = from_device and self._reads(func, args)
        self.count += read
        out = func(*args, **kwargs)
        if func is Tensor.cpu and read:
            with torch._C.DisableTorchFunction():
                return out.clone()  # the host's own, which on a CPU would be the same tensor
        if from_device:
            name = getattr(func, '__name__', '')
            written = args[:1] if name.endswith('_') and not name.endswith('__') else ()
            for tensor in _tensors((out, written, kwargs.get('out'))):
                self._note(tensor)
        return out

    def _note(self, tensor: Tensor) -> None:
        self._on_device[tensor] = self._on_device[_memory(tensor)] = True

    @staticmethod
    def _reads(func: Callable, args: tuple) -> bool:
        # A mask as index decides the shape of the result.
        masked = func is Tensor.__getitem__ and any(tensor.dtype == torch.bool for tensor in _tensors(args[1]))
        return func in _READS or masked


@contextmanager
def cuda_synchronisations() -> Iterator[list[str]]:
    """Collects the messages of torch's own check of operations that wait for the GPU."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            yield messages
        finally:
            torch.cuda.set_sync_debug_mode('default')
            messages += [str(w.message) for w in caught if 'synchroniz' in str(w.message)]


def _memory(tensor: Tensor) -> Tensor:
    with torch._C.DisableTorchFunction():
        return tensor if tensor._base is None else tensor._base


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
