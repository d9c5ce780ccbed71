"""Memory of data loader workers over two epochs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mmengine.dataset import BaseDataset
from torch.utils.data import DataLoader

from mtl_plugins.datasets.samplers import AbsoluteSampler

BATCH = 8


@dataclass(frozen=True)
class Growth:
    """Resident memory of the workers (mean over them) in MiB.

    Attributes:
        after_first: Mean over the last quarter of the first epoch.
        after_second: The same for the second epoch.
        slope: KiB per image and worker over the second epoch, from a straight line through its samples.
        images: Images per epoch.
        workers: Number of workers.
    """

    after_first: float
    after_second: float
    slope: float
    images: int
    workers: int

    @property
    def share(self) -> float:
        """Growth from the first to the second epoch."""
        return self.after_second / self.after_first - 1


def resident(pid: int) -> float:
    """Resident memory of a process in MiB, without pages that are shared with files."""
    with open(f'/proc/{pid}/statm') as file:
        _, total, shared, *_ = map(int, file.read().split())
    return (total - shared) * os.sysconf('SC_PAGE_SIZE') / 2**20


def measure_growth(dataset: BaseDataset, workers: int, advance: Callable[[int], None] = lambda n: None) -> Growth:
    """Load two epochs and watch the workers.

    Args:
        dataset: Our training dataset.
        workers: Worker processes.
        advance: Called with the number of images of each batch.
    """
    loader = DataLoader(
        dataset,
        batch_size=BATCH,
        sampler=AbsoluteSampler(dataset, seed=0),
        num_workers=workers,
        collate_fn=len,  # the tensors stay in the worker: sending them is not what is measured
    )
    per_epoch = len(dataset) // BATCH
    samples = []
    iterator = iter(loader)
    pids = [worker.pid for worker in iterator._workers]
    for _ in range(2 * per_epoch):
        advance(next(iterator))
        samples.append(np.mean([resident(pid) for pid in pids]))
    del iterator
    first, second = np.array(samples[:per_epoch]), np.array(samples[per_epoch:])
    quarter = max(per_epoch // 4, 1)
    slope = np.polyfit(np.arange(per_epoch) * BATCH / workers, second * 1024, 1)[0] if per_epoch > 1 else 0.0
    return Growth(
        float(first[-quarter:].mean()), float(second[-quarter:].mean()), float(slope), per_epoch * BATCH, workers
    )
