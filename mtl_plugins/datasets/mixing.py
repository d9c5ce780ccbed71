"""A stream that mixes datasets in chosen shares and can keep every task in sight."""

from __future__ import annotations

import math
from collections.abc import Sequence, Sized
from typing import Literal

import numpy as np
import torch

from mtl_plugins.errors import UserError
from mtl_plugins.registry import DATA_SAMPLERS
from mtl_plugins.utils.argument_types import Count, Index, Positive

from .covering import TaskCover
from .presence import sample_tasks
from .samplers import AbsoluteSampler


@DATA_SAMPLERS.register_module()
class MixedSampler(AbsoluteSampler):
    """:class:`AbsoluteSampler` for several datasets and for partial labels.

    Every stretch of the stream holds the datasets of a ``ConcatDataset`` (ours or MMEngine's) in their shares, not
    only on average. All that :class:`AbsoluteSampler` promises holds: an epoch follows from ``(seed, epoch)`` alone,
    :meth:`skip` is absolute and costs one epoch's arrangement at most, and ranks together are the stream of one
    process.

    Args:
        dataset: The dataset. What is no ``ConcatDataset`` counts as one.
        mixing: ``'proportional'`` (each sample once per epoch), ``'balanced'`` (each dataset equally often: of a
            large one an epoch brings a part, and the next epochs the rest; a small one is repeated), or one positive
            weight per dataset. An epoch is as long as all datasets together.
        cover: Every aligned run of so many positions ``[i * cover, (i + 1) * cover)`` carries each task at least
            once. A batch of all ranks together is made of such runs if its size is a multiple of ``cover``; then no
            task is absent from any training step, since presence is decided over all ranks. A single rank may lack
            one. Rare labels are repeated for it where there are too few, and other samples wait for a later epoch;
            an epoch is rounded up to a multiple of ``cover``. None: left to chance. What counts as carried is told by
            :func:`~mtl_plugins.datasets.presence.sample_tasks`.
        shuffle: Whether each dataset is drawn in random order, and mixed at random within its shares.
        seed: See :class:`AbsoluteSampler`.

    Raises:
        ValueError: If an argument is out of range, a dataset is empty, a task has no sample, or ``cover`` samples
            cannot hold all tasks.
    """

    def __init__(
        self,
        dataset: Sized,
        mixing: Literal['proportional', 'balanced'] | Sequence[Positive] = 'proportional',
        cover: Count | None = None,
        shuffle: bool = True,
        seed: Index | None = None,
    ) -> None:
        super().__init__(dataset, shuffle, seed)
        self.sizes = _sizes(dataset)
        self.counts = _counts(mixing, self.sizes)
        self.cover = None
        if cover is not None:
            self.cover = TaskCover(*sample_tasks(dataset), cover)
            self.size = self.cover.rounded(self.size)

    def _order(self, epoch: int) -> list[int]:
        """The samples of an epoch in their order, from ``(seed, epoch)`` alone."""
        generator = self._generator(0, epoch)
        indices, places = [], []
        first = 0
        for number, (size, count) in enumerate(zip(self.sizes, self.counts)):
            indices.append(first + self._part(number, size, epoch * count, count))
            offsets = torch.rand(count, generator=generator, dtype=torch.float64).numpy() if self.shuffle else 0.5
            places.append((np.arange(count) + offsets) / count)
            first += size
        order = np.concatenate(indices)[np.argsort(np.concatenate(places), kind='stable')]
        return order.tolist() if self.cover is None else self.cover.arrange(order, epoch, generator)

    def _part(self, number: int, size: int, start: int, count: int) -> np.ndarray:
        """``count`` entries from ``start`` on of the endless stream of permutations of one dataset."""
        rounds = range(start // size, -(-(start + count) // size))
        stream = np.concatenate([self._permutation(number, size, each) for each in rounds])
        return stream[start - rounds[0] * size :][:count]

    def _permutation(self, number: int, size: int, each: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(size)
        return torch.randperm(size, generator=self._generator(number + 1, each)).numpy()

    def _generator(self, *purpose: int) -> torch.Generator:
        word = np.random.SeedSequence((self.seed, *purpose)).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(word) % 2**63)


def _sizes(dataset: Sized) -> list[int]:
    """Length of each dataset of a concatenation, in order."""
    parts = getattr(dataset, 'datasets', None)
    sizes = [len(dataset)] if parts is None else [len(part) for part in parts]
    if min(sizes) == 0:
        raise UserError(f'MixedSampler: datasets[{sizes.index(0)}] is empty; check its root and split')
    return sizes


def _counts(mixing: str | Sequence[float], sizes: Sequence[int]) -> list[int]:
    """How many samples of each dataset an epoch has; they add up to the length of all."""
    if mixing == 'proportional':
        return list(sizes)
    weights = [1.0] * len(sizes) if mixing == 'balanced' else mixing
    if len(weights) != len(sizes):
        raise UserError(
            f"MixedSampler: mixing must be 'proportional', 'balanced' or {len(sizes)} positive numbers, one per "
            f'dataset, but got {mixing!r}'
        )
    total = sum(sizes)
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [math.floor(value) for value in exact]
    # The largest remainders get what is missing.
    for number in sorted(range(len(sizes)), key=lambda i: counts[i] - exact[i])[: total - sum(counts)]:
        counts[number] += 1
    if min(counts) == 0:
        raise UserError(
            f'MixedSampler: with mixing={mixing!r} an epoch of {total} samples has none of '
            f'datasets[{counts.index(0)}]; give it a larger weight'
        )
    return counts
