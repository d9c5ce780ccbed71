"""Which of a batch's forwards may move the running statistics of batch normalisation."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Policy = Literal['first', 'every', 'active']
"""``'first'``: one update per batch, as in ordinary training. ``'every'``: each forward updates (what the released
STGU program does). ``'active'``: each forward updates the shared layers and those of the tasks it trains."""


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The layers of ``model`` whose running statistics a train-mode forward would move."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def synchronises(model: nn.Module) -> bool:
    """Whether a layer of ``model`` normalises over ranks; torch's, mmcv's and others have the word in their name."""
    return any('SyncBatchNorm' in base.__name__ for layer in model.modules() for base in type(layer).__mro__)


@contextmanager
def frozen_statistics(layers: Iterable[_BatchNorm]) -> Iterator[None]:
    """Keep ``running_mean``, ``running_var`` and ``num_batches_tracked`` of layers in train mode.

    The layers still normalise by the batch. ``eval()`` would change the loss that is being measured, ``momentum=0``
    would still count the batch, and ``torch.no_grad()`` does not stop the update at all.
    """
    frozen = [layer for layer in layers if layer.training]
    for layer in frozen:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in frozen:
            layer.track_running_stats = True
