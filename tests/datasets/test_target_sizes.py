"""A target is never stretched onto its image: every loader refuses another aspect before anything is resized."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from exporters import export_nyud, export_pascal_context, export_taskonomy
from PIL import Image

from mtl_plugins.datasets import NYUDv2Dataset, PascalContextMTDataset, TaskonomyDataset
from mtl_plugins.datasets.files import FilesDataset, SampleReader, read_indices, read_lines, read_npy
from mtl_plugins.datasets.files import pictures as pictures_module
from mtl_plugins.datasets.files.sizes import same_aspect
from mtl_plugins.datasets.nyud.layout import PACKAGINGS
from mtl_plugins.datasets.transforms import (
    MultiTaskPad,
    MultiTaskRandomAffine,
    MultiTaskRandomCrop,
    MultiTaskRandomScale,
    MultiTaskResize,
)
from mtl_plugins.errors import UserError

SIZE = (48, 64)
LOAD = [dict(type='mtl_plugins.LoadSampleFiles')]
STANDS = {
    **{
        name: (NYUDv2Dataset, lambda root, name=name, **k: export_nyud(root, packaging=name, **k), {})
        for name in PACKAGINGS
    },
    'pascal_context': (PascalContextMTDataset, export_pascal_context, {}),
    'taskonomy': (TaskonomyDataset, export_taskonomy, {}),
    'taskonomy, resized': (TaskonomyDataset, export_taskonomy, dict(size=32)),
}
# Annotations of parts are nested structs; whether their masks fit is checked as they are painted.
TASKS = [
    # Taskonomy resizes all its tasks in one place.
    pytest.param(s, t, marks=[pytest.mark.slow] * (s == 'taskonomy, resized' and t not in ('depth_zbuffer', 'normal')))
    for s, (kind, *_) in STANDS.items()
    for t in kind.TASKS
    if t not in ('human_parts', 'keypoints3d')
]


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    base = tmp_path_factory.mktemp('sizes')
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = STANDS[name][1](
                base / name, counts={'train': 1, 'val': 1}, size=SIZE, cache_dir=base / 'cache'
            )
        return made[name]

    return get


def edit(path: Path, change) -> None:
    """Change the array in a file, whatever its format."""
    if path.suffix == '.npy':
        np.save(path, change(np.load(path)))
    elif path.suffix == '.mat':
        [(key, array)] = ((key, array) for key, array in scipy.io.loadmat(path).items() if not key.startswith('__'))
        scipy.io.savemat(path, {key: change(array)})
    else:
        with Image.open(path) as image:
            changed = Image.fromarray(np.ascontiguousarray(change(np.array(image))))
            if image.mode == 'P':
                changed.putpalette(image.getpalette())
        changed.save(path)


CHANGES = {
    'transposed': (lambda a: a.swapaxes(0, 1), 'The sizes are swapped: the target is transposed'),
    'cut': (lambda a: a[: a.shape[0] // 2], 'at another scale. Take the target that belongs to this image'),
    'a row less': (lambda a: a[:-4], 'at another scale. Take the target that belongs to this image'),
}


@pytest.mark.parametrize(('stand', 'task'), TASKS)
def test_every_loader_refuses_another_aspect_and_takes_another_scale(stand, task, roots, tmp_path):
    kind, _, options = STANDS[stand]
    root = Path(shutil.copytree(roots(stand), tmp_path / 'data'))
    options = {'masks': False, **options} if kind is TaskonomyDataset else options
    dataset = kind(root, tasks=[task], cache_dir=tmp_path / 'cache', pipeline=LOAD, **options)
    info = dataset.get_data_info(0)
    files = [info['files'][task]] if isinstance(info['files'][task], str) else list(info['files'][task])
    image = dataset[0]['img'].shape[:2]
    for path in map(Path, files):
        good = path.read_bytes()
        for change, advice in CHANGES.values():
            edit(path, change)
            with pytest.raises(UserError, match=r'expected the same size, or the same proportions') as caught:
                dataset[0]
            text = str(caught.value)
            assert path.name in text
            assert Path(info['img_path']).stem in text
            assert len(re.findall(r'\d+ x \d+', text)) == 2
            assert advice in text
            path.write_bytes(good)
        if len(files) == 1:
            edit(path, lambda array: array[::2, ::2])
            assert dataset[0][f'gt_{task}'].shape[:2] == image
            path.write_bytes(good)


class Own(FilesDataset):
    """A dataset of a user's: pictures of any kind, and two targets."""

    NAME = 'own'
    TASKS = ('semseg', 'depth')

    def find_root(self, data_root):
        return Path(data_root)

    def list_samples(self):
        [image] = self.root.glob('image.*')
        return [dict(img_path=str(image), files=dict(semseg=f'{self.root}/a.png', depth=f'{self.root}/a.npy'))]

    def make_reader(self):
        return OwnReader()


class OwnReader(SampleReader):
    def read_target(self, task, results):
        path = results['files'][task]
        return read_indices(path) if task == 'semseg' else read_npy(path).astype(np.float32)


def make_own(root: Path, stored: np.ndarray, target: np.ndarray, suffix: str, orientation: int) -> Own:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = dict(lossless=True) if suffix == '.webp' else dict(quality=97, subsampling=0) if suffix == '.jpg' else {}
    Image.fromarray(stored).save(root / f'image{suffix}', exif=exif, **options)
    Image.fromarray(target).save(root / 'a.png')
    np.save(root / 'a.npy', target.astype(np.float32) + 1)
    return Own(root, pipeline=LOAD)


def scene(size):
    """A bright rectangle off the centre, and its label."""
    label = np.zeros(size, np.uint8)
    label[size[0] // 8 : size[0] // 2, size[1] // 8 : size[1] // 3] = 1
    return np.repeat((label * 200 + 20)[..., None], 3, -1), label


@pytest.fixture
def told(monkeypatch):
    lines = []
    monkeypatch.setattr(pictures_module, '_SAID', set())
    monkeypatch.setattr(pictures_module, 'print_log', lambda text, **kwargs: lines.append(text))
    return lines


@pytest.mark.parametrize('suffix', ['.jpg', '.tif'])
@pytest.mark.parametrize(
    ('size', 'orientation'),
    [
        # Every turn; how each format stores it is asked in tests/datasets/files.
        pytest.param(size, turn, marks=[pytest.mark.slow] * (turn not in (1, 3, 6)))
        for size, turn in itertools.product([(80, 120), (96, 96)], range(1, 9))
    ],
)
def test_photographs_with_orientation_and_labels_of_either_frame(tmp_path, suffix, size, orientation, told):
    shown, label = scene(size)
    stored = {
        1: shown, 2: shown[:, ::-1], 3: shown[::-1, ::-1], 4: shown[::-1], 5: shown.swapaxes(0, 1),
        6: np.rot90(shown), 7: np.rot90(shown.swapaxes(0, 1), 2), 8: np.rot90(shown, -1),
    }[orientation]  # fmt: skip
    sample = make_own(tmp_path, np.ascontiguousarray(stored), label, suffix, orientation)[0]
    seen = sample['img'][..., 0] > 120
    assert (seen & (label == 1)).sum() / (seen | (label == 1)).sum() > 0.95
    swaps = orientation in (5, 6, 7, 8) and size[0] != size[1]
    assert len(told) == (orientation != 1 and not swaps)
    assert not told or f'EXIF orientation {orientation}' in told[0]
    of_stored = {5: label.T, 6: np.rot90(label), 7: np.rot90(label.T, 2), 8: np.rot90(label, -1)}.get(orientation)
    if swaps:
        with pytest.raises(UserError, match=f'turned upright as its EXIF orientation {orientation} says') as caught:
            make_own(tmp_path, np.ascontiguousarray(stored), np.ascontiguousarray(of_stored), suffix, orientation)[0]
        assert '120 x 80 (height x width), but its image' in str(caught.value)
        assert 'a.png' in str(caught.value)


def test_targets_that_carry_an_orientation_are_refused(tmp_path):
    shown, label = scene((80, 120))
    dataset = make_own(tmp_path, shown, label, '.png', 1)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(label).save(tmp_path / 'a.png', exif=exif)
    with pytest.raises(UserError, match=r'a\.png: expected .* EXIF orientation 3; store the target upright'):
        dataset[0]


@pytest.mark.parametrize('factor', [2, 3, 4, 7, 8, 0.5, 1 / 3, 0.3])
def test_sizes_of_the_same_proportions_are_told_from_others(factor):
    for size in ((480, 640), (375, 500), (333, 500), (512, 512), (425, 560), (1080, 1920)):
        for rounded in (np.floor, np.ceil, np.rint):
            assert same_aspect(tuple(int(rounded(side / factor)) for side in size), size)
    others = (((480, 640), (425, 560)), ((96, 128), (50, 50)), ((120, 80), (80, 120)), ((500, 375), (375, 500)))
    others += (((96, 128), (2, 2)), ((96, 128), (92, 128)), ((10, 10), (0, 0)))
    others += tuple(((128, 96), near) for near in ((127, 96), (128, 97), (126, 96), (129, 97), (127, 97), (126, 94)))
    for first, second in others:
        assert not same_aspect(first, second)
        assert not same_aspect(second, first)


@pytest.mark.parametrize('size', [(79, 120), (80, 121), (81, 121), (78, 118), (82, 120)])
def test_a_label_without_a_row_of_its_image_is_no_scaled_one(tmp_path, size):
    shown, label = scene((80, 120))
    dataset = make_own(tmp_path, shown, np.resize(label, size), '.png', 1)
    with pytest.raises(UserError, match=f'is {size[0]} x {size[1]} .* Rows or columns were cut off or added'):
        dataset[0]


TRANSFORMS = {
    'resize': MultiTaskResize((32, 48)),
    'resize to the size of the image': MultiTaskResize((80, 120)),
    'scale': MultiTaskRandomScale((0.5, 0.5)),
    'crop': MultiTaskRandomCrop(20),
    'affine': MultiTaskRandomAffine(),
    'pad': MultiTaskPad(200),
}


@pytest.mark.parametrize('transform', TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms_refuse_what_does_not_fit_whoever_has_loaded_it(transform):
    def sample(size):
        return dict(img=np.zeros((80, 120, 3), np.uint8), gt_semseg=np.zeros(size, np.uint8), seg_fields=['gt_semseg'])

    for size in ((120, 80), (50, 50)):
        with pytest.raises(UserError, match=rf"{type(transform).__name__}: .* task 'semseg' is {size[0]} x {size[1]} "):
            transform(sample(size))
    out = transform(sample((80, 120)))
    assert out['gt_semseg'].shape == out['img'].shape[:2]
    if isinstance(transform, (MultiTaskResize, MultiTaskRandomScale)):
        out = transform(sample((40, 60)))
        assert out['gt_semseg'].shape == out['img'].shape[:2]
    else:
        with pytest.raises(UserError, match='come before'):
            transform(sample((40, 60)))


@pytest.mark.parametrize(
    ('task', 'values', 'bad'),
    [
        ('semseg', np.full(SIZE, 255, np.uint8), None),
        ('semseg', np.array([[0, 255]] * SIZE[0], np.uint8).repeat(SIZE[1] // 2, 1), None),
        ('depth', np.full(SIZE, np.nan), None),
        ('depth', np.full(SIZE, 1e30), '1e+30'),
        ('depth', np.full(SIZE, 65504.0), '65504'),
        ('depth', np.full(SIZE, -1.0), '-1'),
        ('depth', np.full(SIZE, np.inf), 'inf'),
    ],
)
def test_a_task_without_labels_or_with_absurd_values_gets_a_word(tmp_path, monkeypatch, task, values, bad):
    lines = []
    monkeypatch.setattr('mtl_plugins.datasets.files.base.print_log', lambda text, **kwargs: lines.append(text))
    shown, label = scene(SIZE)
    make_own(tmp_path, shown, label, '.png', 1)
    assert lines == []
    if task == 'semseg':
        Image.fromarray(values).save(tmp_path / 'a.png')
    else:
        np.save(tmp_path / 'a.npy', values)
    dataset = Own(tmp_path, pipeline=[*LOAD, dict(type='mtl_plugins.CheckTargets')])
    if bad is None:
        dataset[0]
        assert len(lines) == 1
        plain = task == 'semseg' and 0 in values
        said = f'{task}: nothing but 0 and 255 in' if plain else f'not one pixel is labelled for {task} in'
        assert f'{said} the 1 of 1 samples' in lines[0]
    else:
        with pytest.raises(UserError, match=f"task 'depth' .*found value {re.escape(bad)} in"):
            dataset[0]


def test_what_readers_return_is_an_array_of_pixels(tmp_path, monkeypatch):
    """Neither a traceback, nor a mask that is lost, nor one pixel stretched over the whole image."""
    shown, label = scene((64, 64))
    dataset = make_own(tmp_path, shown, label, '.png', 1)
    no_arrays = (None, [[1]], 'x', Image.fromarray(label), np.uint8(1), np.array(1), label[0], label[None, None])
    others = (np.full((64, 64), None), label * 1j, np.ma.masked_array(label, label == 1))
    for value in (*no_arrays, *others):
        monkeypatch.setattr(OwnReader, 'read_target', lambda self, task, results, value=value: value)
        with pytest.raises(UserError, match=r"image\.png.*Reader\.read_target must return .* 'semseg', but returned"):
            dataset[0]
    for value in (label[:1, :1], label[:3, :3], np.zeros((1100, 1100), np.uint8)):
        monkeypatch.setattr(OwnReader, 'read_target', lambda self, task, results, value=value: value)
        with pytest.raises(UserError, match='up to 16 times smaller or larger'):
            dataset[0]
    for value in (None, [[1]], np.ma.masked_array(shown, shown > 9), shown.astype(float), shown[..., 0]):
        monkeypatch.setattr(OwnReader, 'read_image', lambda self, results, value=value: value)
        with pytest.raises(UserError, match=r'OwnReader\.read_image must return BGR'):
            dataset[0]


def test_millimetres_and_lines_that_occur_twice_get_a_word(tmp_path, monkeypatch):
    lines = []
    for module in ('base', 'folders'):
        monkeypatch.setattr(f'mtl_plugins.datasets.files.{module}.print_log', lambda text, **kwargs: lines.append(text))
    shown, label = scene(SIZE)
    dataset = make_own(tmp_path, shown, label, '.png', 1)
    assert lines == []
    np.save(tmp_path / 'a.npy', np.where(label, np.nan, 2000.0))
    make_own_again = Own(tmp_path, pipeline=LOAD)
    assert dataset[0]['img'].shape == make_own_again[0]['img'].shape
    assert len(lines) == 1
    assert 'depth: half of the pixels of a sample are further than 250 m' in lines[0]
    listed = tmp_path / 'train.txt'
    listed.write_bytes('\ufeffa b\r\n\r\né\r\n'.encode())
    assert read_lines(listed) == ['a b', 'é']
    assert len(lines) == 1
    listed.write_text('a b\né\na b\n')
    assert read_lines(listed) == ['a b', 'é', 'a b']
    assert "train.txt: 1 lines occur more than once, for example 'a b'" in lines[1]
