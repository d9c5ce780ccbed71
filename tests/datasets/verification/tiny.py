"""A dataset of the smallest kind, and its check, to test the verification by itself."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from mtl_plugins.datasets.files.reading import read_indices, read_npy
from mtl_plugins.datasets.verification import (
    CheckJob,
    LayoutCheck,
    check_decodes,
    check_ids,
    check_npy,
    check_png,
    check_target,
    make_problem,
)

SIZE = (12, 16)
CLASSES = 5
LOCATION = f'{__name__}:TinyCheck'


def make_tiny(root: Path, count: int = 3) -> Path:
    """Write the dataset: ``list.txt``, ``images/*.png``, ``semseg/*.png`` and ``depth/*.npy``."""
    random = np.random.default_rng(0)
    for folder in ('images', 'semseg', 'depth'):
        (root / folder).mkdir(parents=True)
    names = [f'{index:03d}' for index in range(count)]
    for name in names:
        Image.fromarray(random.integers(0, 256, (*SIZE, 3), np.uint8)).save(root / f'images/{name}.png')
        Image.fromarray(random.integers(0, CLASSES, SIZE, np.uint8)).save(root / f'semseg/{name}.png')
        np.save(root / f'depth/{name}.npy', random.uniform(1, 5, SIZE).astype(np.float32))
    (root / 'list.txt').write_text('\n'.join(names) + '\n')
    return root


class TinyCheck(LayoutCheck):
    NAME = 'tiny'

    def __init__(self, root):
        super().__init__(root)
        if not (self.root / 'list.txt').is_file():
            raise FileNotFoundError(f'{root} holds no list.txt')
        self.ids = (self.root / 'list.txt').read_text().split()

    def structure(self):
        yield from check_ids('list.txt', self.ids)
        for folder in ('images', 'semseg', 'depth'):
            if not (self.root / folder).is_dir():
                yield make_problem('missing folder', folder, 'it is not there')

    def extra_files(self):
        return ['list.txt']

    def jobs(self):
        return [
            CheckJob((f'images/{name}.png', f'semseg/{name}.png', f'depth/{name}.npy'), partial(check_sample, name))
            for name in self.ids
        ]

    def describe(self):
        return {'samples': str(len(self.ids))}


def check_sample(name: str, root: Path):
    image, labels, depth = f'images/{name}.png', f'semseg/{name}.png', f'depth/{name}.npy'
    return [
        *check_png(root, image, size=SIZE, channels=3, bits=8),
        *check_decodes(root, image),
        *check_png(root, labels, size=SIZE, channels=1, bits=8),
        *check_target(root, labels, 'semseg', partial(read_indices, root / labels), size=SIZE, num_classes=CLASSES),
        *check_npy(root, depth, shape=SIZE, dtypes=('float32',)),
        *check_target(root, depth, 'depth', partial(read_npy, root / depth), size=SIZE),
    ]


class SlowCheck(TinyCheck):
    """Says that it has begun, then takes its time, so that it can be interrupted."""

    def jobs(self):
        return [CheckJob(job.paths, partial(_slowly, job.run)) for job in super().jobs()]


class DyingCheck(TinyCheck):
    """Its workers die, as for lack of memory."""

    def jobs(self):
        return [CheckJob(job.paths, _die) for job in super().jobs()]


class RaisingCheck(TinyCheck):
    """Its decoding stumbles over a file."""

    def jobs(self):
        return [CheckJob(job.paths, partial(_raise, job.paths[2])) for job in super().jobs()]


def _slowly(run, root):
    (Path(os.environ['TINY_STARTED']) / str(os.getpid())).touch()
    time.sleep(0.1)
    return run(root)


def _die(root):
    os._exit(1)


def _raise(path, root):
    raise IndexError(f'index 3 of {path} is out of range')
