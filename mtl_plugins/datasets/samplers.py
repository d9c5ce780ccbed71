"""An infinite sampler whose samples know their absolute position in the training stream.

The position is what exact resuming hangs on: it fixes which sample comes (together with the seed) and, through
:class:`~mtl_plugins.datasets.transforms.SeededTransforms`, how it is augmented. Nothing depends on how many samples
were drawn before, on the number of workers, or on the state of any global random generator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mtl_plugins.errors import UserError
from mtl_plugins.registry import DATA_SAMPLERS
from mtl_plugins.utils.argument_types import Checked, Index


class SamplePosition(int):
    """Index of a sample in its dataset that also carries the sample's absolute position in the training stream.

    It is an ``int`` wherever an index is wanted. ``-`` and ``%`` with a plain integer keep the position, which is what
    MMEngine's ``ConcatDataset`` and ``RepeatDataset`` do with an index before they pass it on.

    Args:
        index: Index in the dataset.
        position: Place in the stream of all ranks together, counted from 0 at the start of training.
    """

    position: int

    def __new__(cls, index: int, position: int) -> SamplePosition:  # noqa: D102 - described by the class
        self = super().__new__(cls, index)
        self.position = int(position)
        return self

    def __getnewargs__(self) -> tuple[int, int]:
        return int(self), self.position

    def __deepcopy__(self, memo: dict) -> SamplePosition:
        return self

    def __sub__(self, other: int) -> SamplePosition:
        return SamplePosition(int(self) - int(other), self.position)

    def __mod__(self, other: int) -> SamplePosition:
        return SamplePosition(int(self) % int(other), self.position)

    def __repr__(self) -> str:
        return f'SamplePosition({int(self)}, position={self.position})'

    # A log line, a file name or a format specification wants the index alone.
    __str__ = int.__repr__


@DATA_SAMPLERS.register_module()
class AbsoluteSampler(Checked, Sampler):
    """Endless stream of indices in which rank ``r`` of ``W`` takes the absolute positions ``r, r + W, r + 2W, ...``.

    Position ``p`` belongs to epoch ``p // len(dataset)``, and each epoch is a permutation drawn from ``(seed, epoch)``
    alone. So any position is found without drawing what comes before it, and :meth:`skip` costs nothing.

    Args:
        dataset: The dataset, of which only the length is used.
        shuffle: Whether an epoch is a random permutation; otherwise it is ``0, 1, ..., len(dataset) - 1``.
        seed: Seed of the permutations, the same on every rank. None draws one and shares it among the ranks; the
            Runner passes its own seed here. It may be set again (``sampler.seed = 1``) before iterating.

    Raises:
        ValueError: If the dataset is empty.
    """

    endless = True

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: Index | None = None) -> None:
        self.size = len(dataset)
        if self.size == 0:
            raise UserError(
                f'AbsoluteSampler: the dataset ({type(dataset).__name__}) is empty, so there is nothing to sample; '
                'check its root and split'
            )
        self.dataset = dataset
        self.shuffle = shuffle
        self.rank, self.world_size = get_dist_info()
        self.seed = int(sync_random_seed() if seed is None else seed)
        self._skipped = 0

    def __iter__(self) -> Iterator[SamplePosition]:
        """Yield from the position set by :meth:`skip` on; each new iterator starts there again."""
        position = self._skipped * self.world_size + self.rank
        epoch, order = -1, []
        while True:
            if position // self.size != epoch:
                epoch = position // self.size
                order = self._order(epoch)
            yield SamplePosition(order[position % self.size], position)
            position += self.world_size

    def _order(self, epoch: int) -> list[int] | range:
        """Order of the samples in an epoch, from ``(seed, epoch)`` alone."""
        if not self.shuffle:
            return range(self.size)
        # A generator seeded with a simple sum would give epoch 1 of seed 0 the order of epoch 0 of seed 1.
        mixed = torch.Generator().manual_seed(self.seed)
        base = int(torch.randint(2**62, (), generator=mixed))
        generator = torch.Generator().manual_seed((base + epoch) % 2**63)
        return torch.randperm(self.size, generator=generator).tolist()

    def skip(self, num_samples: int) -> None:
        """Let iterators made from now on start after the first ``num_samples`` samples of this rank.

        The number is absolute, so calling twice with the same number is the same as calling once. MMEngine calls this
        when it resumes an ``IterBasedTrainLoop``.

        Args:
            num_samples: Samples that this rank had taken, that is iterations times batch size.

        Raises:
            ValueError: If the number is negative.
        """
        if num_samples < 0:
            raise ValueError(f'AbsoluteSampler.skip: num_samples must be 0 or more, but got {num_samples}')
        self._skipped = int(num_samples)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the stream is endless and knows its epochs itself. MMEngine calls this on every sampler."""

    def __len__(self) -> int:
        """Length of the dataset, as MMEngine's infinite sampler reports it."""
        return self.size
