"""Arranges samples so that every run of a few of them carries every task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from mtl_plugins.errors import UserError


class TaskCover:
    """Arranges the samples of an epoch in blocks that each carry every task.

    Args:
        tasks: Names of the tasks, for messages.
        carried: ``(number of samples, number of tasks)``, whether a sample carries a task.
        block: Samples per block.

    Raises:
        ValueError: If no sample carries a task, or a block cannot hold all of them.
    """

    def __init__(self, tasks: Sequence[str], carried: np.ndarray, block: int) -> None:
        nobody = [task for task, any_sample in zip(tasks, carried.any(0)) if not any_sample]
        if nobody:
            raise UserError(f'cover: no sample carries {", ".join(nobody)}; leave it out of the tasks of the datasets')
        self.block = block
        self.carried = carried
        self.carriers = [np.flatnonzero(column) for column in carried.T]
        self.rarest_first = sorted(range(len(tasks)), key=lambda task: len(self.carriers[task]))
        few = _few_covering(carried)
        # For each of them all samples that can stand in for it.
        self.stand_ins = [np.flatnonzero((carried >= carried[sample]).all(1)) for sample in few]
        if len(few) > block:
            raise UserError(
                f'cover={block}: so few samples cannot carry all of {", ".join(tasks)}; {len(few)} are needed. '
                'Raise cover (and the batch size, which should be a multiple of it), or set cover=None'
            )

    def rounded(self, count: int) -> int:
        """Length of an epoch of ``count`` samples in whole blocks."""
        return -(-count // self.block) * self.block

    def arrange(self, order: np.ndarray, epoch: int, generator: torch.Generator) -> list[int]:
        """Blocks of the samples ``order``, which keep their order where they can.

        Args:
            order: Indices of samples.
            epoch: Number of the epoch; decides which samples are repeated if there are too few.
            generator: Draws the order within each block.

        Returns:
            ``rounded(len(order))`` indices.
        """
        number = self.rounded(len(order)) // self.block
        supply = _Supply(order, self.carried, self.carriers, start=epoch * number)
        blocks = [self._needed(supply, epoch * number + each) for each in range(number)]
        rest = supply.rest()
        arranged = []
        for block in blocks:
            block += [next(rest) for _ in range(self.block - len(block))]
            arranged += [block[place] for place in torch.randperm(self.block, generator=generator).tolist()]
        return arranged

    def _needed(self, supply: _Supply, turn: int) -> list[int]:
        """Samples that carry all tasks, at most a block of them."""
        picked: list[int] = []
        missing = np.ones(len(self.carriers), dtype=bool)
        for task in self.rarest_first:
            if missing[task]:
                picked.append(supply.take(task))
                missing &= ~self.carried[supply.sample(picked[-1])]
        if len(picked) > self.block:
            supply.give_back(picked)
            return [int(samples[turn % len(samples)]) for samples in self.stand_ins]
        return [supply.sample(place) for place in picked]


class _Supply:
    """Hands out the samples of an epoch, each once; where a task has no unused one left, repeats of any epoch's."""

    def __init__(self, order: np.ndarray, carried: np.ndarray, carriers: Sequence[np.ndarray], start: int) -> None:
        self.order = order.tolist()
        self.carriers = carriers
        self.used = bytearray(len(self.order))
        self.queues = [np.flatnonzero(column).tolist() for column in carried[order].T]
        self.next = [0] * len(carriers)
        self.repeats = [start] * len(carriers)

    def take(self, task: int) -> int:
        """Place of an unused sample with the task; a repeated sample ``s`` is ``-1 - s``."""
        queue = self.queues[task]
        while self.next[task] < len(queue):
            place = queue[self.next[task]]
            self.next[task] += 1
            if not self.used[place]:
                self.used[place] = True
                return place
        self.repeats[task] += 1
        return -1 - int(self.carriers[task][(self.repeats[task] - 1) % len(self.carriers[task])])

    def give_back(self, places: Sequence[int]) -> None:
        """Let samples be used after all, as fillers."""
        for place in places:
            if place >= 0:
                self.used[place] = False

    def sample(self, place: int) -> int:
        """Index of the sample that :meth:`take` handed out."""
        return self.order[place] if place >= 0 else -1 - place

    def rest(self) -> Iterator[int]:
        """What was not used, in order, and then all from the start again."""
        yield from (sample for sample, used in zip(self.order, self.used) if not used)
        while True:
            yield from self.order


def _few_covering(carried: np.ndarray) -> list[int]:
    """Indices of a few samples that together carry all tasks, found greedily."""
    _, first = np.unique(carried, axis=0, return_index=True)
    missing, chosen = np.ones(carried.shape[1], dtype=bool), []
    while missing.any():
        gains = (carried[first] & missing).sum(1)
        chosen.append(int(first[gains.argmax()]))
        missing &= ~carried[chosen[-1]]
    return chosen
