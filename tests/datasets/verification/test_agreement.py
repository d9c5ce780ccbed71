"""Verification and loaders take the same files: each format and type of numbers is right for both or for neither."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from exporters import export_nyud, export_pascal_context, export_taskonomy
from PIL import Image

from mtl_plugins.datasets import NYUDv2Dataset, PascalContextMTDataset, TaskonomyDataset
from mtl_plugins.datasets.nyud.layout import PACKAGINGS
from mtl_plugins.datasets.verification import get_layout_check
from mtl_plugins.datasets.verification.runner import run_job
from mtl_plugins.errors import UserError

SIZE = (48, 64)
PIPELINE = [dict(type='mtl_plugins.LoadSampleFiles'), dict(type='mtl_plugins.CheckTargets', once=False)]
STATISTICS = {'nyud': ('no labelled',), 'pascal_context': ('no labelled',), 'taskonomy': ('no labelled', 'a median')}
"""What the verification says of values that can be read: they are those of another dataset, or of none."""
STANDS = {
    **{name: ('nyud', NYUDv2Dataset, partial(export_nyud, packaging=name)) for name in PACKAGINGS},
    'pascal_context': ('pascal_context', PascalContextMTDataset, export_pascal_context),
    'taskonomy': ('taskonomy', TaskonomyDataset, export_taskonomy),
}


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    base = tmp_path_factory.mktemp('agreement')
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            export = STANDS[name][2]
            made[name] = export(base / name, counts={'train': 1, 'val': 1}, size=SIZE, cache_dir=base / 'cache')
        return made[name]

    return get


def saved(image: Image.Image, **options):
    return lambda path: image.save(path, 'PNG', **options)


def png_variants(stored: np.ndarray):
    """The array of a PNG in other kinds of PNG, and what is no PNG at all."""
    grey = stored if stored.ndim == 2 else np.ascontiguousarray(stored[..., 0])
    small = grey.astype(np.uint8)
    colours = np.repeat(small[..., None], 3, -1) if stored.ndim == 2 else stored
    palette = Image.fromarray(small)
    palette.putpalette(list(range(256)) * 3)
    few = Image.fromarray(small % 16)
    few.putpalette(list(range(48)))
    turned = Image.Exif()
    turned[0x0112] = 6
    yield 'as it is', saved(Image.fromarray(stored))
    yield '8 bits grey', saved(Image.fromarray(small))
    yield '16 bits grey', saved(Image.fromarray(grey.astype(np.uint16)))
    yield 'RGB', saved(Image.fromarray(colours))
    yield 'RGB with alpha', saved(Image.fromarray(np.concatenate([colours, colours[..., :1]], -1)))
    yield 'grey with alpha', saved(Image.merge('LA', [Image.fromarray(small)] * 2))
    yield 'palette', saved(palette)
    yield 'palette of 4 bits', saved(few, bits=4)
    yield '0 and 1', saved(Image.fromarray((stored > 127).astype(np.uint8)))
    yield '1 bit', saved(Image.fromarray(small > 127))
    yield 'a JPEG', lambda path: Image.fromarray(colours).save(path, 'JPEG')
    yield 'turned', saved(Image.fromarray(stored), exif=turned)
    yield 'turned by nothing', saved(Image.fromarray(stored), exif=Image.Exif())
    yield 'truncated', lambda path: path.write_bytes(path.read_bytes()[:-20])
    yield 'altered', lambda path: path.write_bytes(_flipped(path.read_bytes()))


def _flipped(data: bytes) -> bytes:
    middle = data.index(b'IDAT') + 8
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


def array_variants(stored: np.ndarray):
    for dtype in (bool, 'u1', 'i1', 'i2', 'u2', 'i4', 'i8', 'f2', 'f4', 'f8', '>f4', 'c8'):
        with np.errstate(invalid='ignore'):
            yield np.dtype(dtype).name + ('' if dtype != '>f4' else ', big-endian'), stored.astype(dtype)
    yield 'times 255', (stored * 255).astype(np.float32)
    yield '8 bits, 0 and 255', ((stored > 0.5) * 255).astype(np.uint8)
    yield 'halves', stored.astype(np.float64) + 0.5
    yield 'one channel', stored[..., None] if stored.ndim == 2 else stored[..., :1]
    yield 'infinite', np.full(stored.shape, np.inf, np.float32)
    yield 'NaN', np.full(stored.shape, np.nan, np.float32)
    yield 'negative', -stored.astype(np.float32) - 1
    yield 'huge', np.full(stored.shape, 1e30, np.float32)


def variants(path: Path):
    """Name -> function that replaces the file."""
    if path.suffix == '.npy':
        for name, array in array_variants(np.load(path)):
            yield name, partial(_save_npy, array)
    elif path.suffix == '.mat':
        content = {key: value for key, value in scipy.io.loadmat(path).items() if not key.startswith('__')}
        [(key, stored)] = content.items()
        if stored.dtype.names is None:
            for name, array in array_variants(stored):
                if array.dtype != np.float16:  # which MATLAB does not have
                    yield name, partial(_save_mat, key, array)
    elif path.suffix == '.png':
        with Image.open(path) as image:
            yield from png_variants(np.array(image))


def _save_npy(array: np.ndarray, path: Path) -> None:
    np.save(path, array)


def _save_mat(key: str, array: np.ndarray, path: Path) -> None:
    scipy.io.savemat(path, {key: array})


ALIKE = ('depth_zbuffer', 'edge_occlusion', 'edge_texture', 'keypoints3d', 'segment_unsup25d')
"""Tasks of Taskonomy that are stored as others are."""
CASES = [(stand, task) for stand, (_, kind, _) in STANDS.items() for task in kind.TASKS if task not in ALIKE]


@pytest.mark.parametrize(('stand', 'task'), CASES)
def test_verification_and_loader_agree(stand, task, roots, tmp_path):
    name, kind, _ = STANDS[stand]
    root = Path(shutil.copytree(roots(stand), tmp_path / 'data'))
    dataset = kind(root, tasks=[task], cache_dir=tmp_path / 'cache', pipeline=PIPELINE)
    jobs = get_layout_check(name)(root).jobs()
    files = dataset.get_data_info(0)['files'][task]
    for file in map(Path, [files] if isinstance(files, str) else files):
        good = file.read_bytes()
        relative = file.relative_to(root).as_posix()
        job = next(job for job in jobs if relative in job.paths)
        outcomes = {}
        for variant, write in variants(file):
            write(file)
            told = [p for p in run_job(root, job, True, False).problems if p.path == relative]
            refused = [problem for problem in told if not any(word in problem.problem for word in STATISTICS[name])]
            try:
                dataset[0]
                error = None
            except UserError as caught:
                error = caught
            assert bool(refused) == bool(error), (variant, refused, error)
            assert error is None or file.name in str(error) or 'sample' in str(error)
            outcomes[variant] = error is None
            file.write_bytes(good)
        assert not outcomes or outcomes.get('as it is', True)
        assert not outcomes or not all(outcomes.values())
        if stand == 'mtlp' and task == 'edge':
            assert outcomes['uint8']
            assert outcomes['8 bits, 0 and 255']
            assert outcomes['bool']
            assert not outcomes['times 255']
        if task == 'depth':
            assert outcomes['float64']
            assert not outcomes['uint16']  # millimetres, most likely
            assert not outcomes['huge']
        if stand == 'pascal_context' and relative.endswith('.mat') and task == 'edge':
            assert outcomes['float64']
            assert not outcomes['halves']
