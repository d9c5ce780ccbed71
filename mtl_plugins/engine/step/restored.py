"""Tensors that are changed for a while, and brought back bit by bit."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def restored(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Afterwards the tensors hold the values that they hold now."""
    saved = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in saved:
                tensor.copy_(value)
