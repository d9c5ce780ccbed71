"""The check of NYUD-v2: clean exports are clean, and each kind of damage is named with its file."""

import pickle
import shutil

import cv2
import numpy as np
import pytest
import scipy.io
from exporters import export_nyud

from mtl_plugins.datasets.files import NormalAxes
from mtl_plugins.datasets.nyud import NYUDv2Check, layout
from mtl_plugins.datasets.verification import verify
from mtl_plugins.datasets.verification.base import Problem

SIZE = (48, 64)
COUNTS = {'train': 4, 'val': 2}
PACKAGINGS = tuple(layout.PACKAGINGS)


@pytest.fixture(scope='module')
def originals(tmp_path_factory):
    base = tmp_path_factory.mktemp('exports')
    return {
        name: export_nyud(base / name, COUNTS, SIZE, packaging=name, cache_dir=base / 'cache') for name in PACKAGINGS
    }


@pytest.fixture
def copies(originals, tmp_path):
    return lambda name: shutil.copytree(originals[name], tmp_path / name)


def check(root):
    """All problems: the structure's, and those of the jobs; missing files as the runner names them."""
    layout_check = NYUDv2Check(root)
    problems = list(layout_check.structure())
    for job in layout_check.jobs():
        problems += [
            Problem(path, 'missing file: ', '') for path in job.paths if not (layout_check.root / path).exists()
        ]
        problems += pickle.loads(pickle.dumps(job.run))(layout_check.root)
    assert all(problem.remedy for problem in problems if problem.kind != 'missing file')
    return problems


def summary(root):
    return [(problem.path, problem.kind) for problem in check(root)]


def png(path, array):
    path.write_bytes(cv2.imencode(path.suffix, array)[1].tobytes())


@pytest.mark.parametrize('packaging', PACKAGINGS)
def test_exports_are_clean(originals, packaging):
    assert check(originals[packaging]) == []
    checked = NYUDv2Check(originals[packaging])
    described = checked.describe()
    assert packaging in described['packaging']
    assert described['samples'] == 'train 4, val 2'
    assert 'stand-in' in described['content']
    files = {path for job in checked.jobs() for path in job.paths} | set(checked.extra_files())
    there = {str(path.relative_to(checked.root)) for path in checked.root.rglob('*') if path.is_file()}
    assert there - files == {'fixture.json'}
    assert files <= there


@pytest.mark.parametrize('packaging', PACKAGINGS)
def test_missing_and_truncated_files(copies, packaging):
    root, kind = copies(packaging), layout.PACKAGINGS[packaging]
    gone = kind.target_path('depth', '0002')
    (root / gone).unlink()
    cut = [kind.image_path('0001'), *(kind.target_path(task, '0003') for task in layout.TASKS)]
    for path in cut:
        content = (root / path).read_bytes()
        (root / path).write_bytes(content[: len(content) * 2 // 3])
    assert sorted(summary(root)) == sorted([(gone, 'missing file'), *((path, 'unreadable file') for path in cut)])


@pytest.mark.parametrize('packaging', PACKAGINGS)
def test_wrong_sizes(copies, packaging):
    root, kind = copies(packaging), layout.PACKAGINGS[packaging]
    paths = [kind.image_path('0001'), *(kind.target_path(task, '0002') for task in layout.TASKS)]
    for path in paths:
        file = root / path
        if file.suffix == '.npy':
            np.save(file, np.load(file)[:-2])
        elif file.suffix == '.mat':
            key = layout.MAT_KEYS['semseg' if 'segmentation' in path else 'depth']
            scipy.io.savemat(file, {key: scipy.io.loadmat(file)[key][:-2]})
        else:
            png(file, cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[:-2])
    assert summary(root) == [(path, 'wrong size') for path in paths]
    assert 'expected 48 x 64' in check(root)[0].problem


def test_wrong_formats_of_atrc(copies):
    root = copies('atrc')
    grey = np.ones(SIZE, np.uint8)
    png(root / 'images' / '0001.png', np.full((*SIZE, 4), 9, np.uint8))
    png(root / 'segmentation' / '0001.png', grey.astype(np.uint16))
    png(root / 'segmentation' / '0002.png', np.stack([grey] * 3, -1))
    png(root / 'normals' / '0001.png', grey)
    (root / 'edge' / '0001.png').write_bytes(cv2.imencode('.jpg', grey)[1].tobytes())
    np.save(root / 'depth' / '0001.npy', grey)
    np.save(root / 'depth' / '0002.npy', np.ones((*SIZE, 2), np.float32))
    assert sorted(summary(root)) == [
        ('depth/0001.npy', 'wrong format'),
        ('depth/0002.npy', 'unreadable file'),
        ('edge/0001.png', 'unreadable file'),
        ('images/0001.png', 'wrong format'),
        ('normals/0001.png', 'wrong format'),
        ('segmentation/0001.png', 'wrong format'),
        ('segmentation/0002.png', 'wrong format'),
    ]


def test_values_out_of_range(copies):
    root = copies('atrc')
    labels = np.full(SIZE, 3, np.uint8)
    labels[3, 4] = 41
    png(root / 'segmentation' / '0001.png', labels)
    png(root / 'segmentation' / '0002.png', np.full(SIZE, 255, np.uint8))  # not-labelled of another convention
    png(root / 'edge' / '0001.png', np.eye(*SIZE, dtype=np.uint8) * np.uint8(100))
    depth = np.load(root / 'depth' / '0001.npy')
    np.save(root / 'depth' / '0001.npy', depth * 1000)
    np.save(root / 'depth' / '0002.npy', -depth)
    np.save(root / 'depth' / '0004.npy', np.where(depth > 3, np.inf, depth))
    assert summary(root) == [
        ('segmentation/0001.png', 'values out of range'),
        ('depth/0001.npy', 'values out of range'),
        ('edge/0001.png', 'values out of range'),
        ('segmentation/0002.png', 'values out of range'),
        ('depth/0002.npy', 'values out of range'),
        ('depth/0004.npy', 'values out of range'),
    ]
    details = {problem.path: problem.detail for problem in check(root)}
    assert 'metres' in details['depth/0001.npy']
    assert 'found at most 100' in details['edge/0001.png']
    assert '40' in details['segmentation/0001.png']


def test_values_out_of_range_of_arrays(copies):
    root = copies('mtlp')
    for sample, factor in (('0001', 255.0), ('0002', 0.6)):
        np.save(root / 'edge' / f'{sample}.npy', np.load(root / 'edge' / f'{sample}.npy') * np.float32(factor))
        np.save(root / 'normals' / f'{sample}.npy', np.load(root / 'normals' / f'{sample}.npy') * np.float32(factor))
    assert summary(root) == [
        (f'{folder}/{sample}.npy', 'values out of range')
        for sample in ('0001', '0002')
        for folder in ('normals', 'edge')
    ]


@pytest.mark.parametrize('value', [0.0, np.nan])
@pytest.mark.parametrize('packaging', PACKAGINGS)
def test_nothing_labelled(copies, packaging, value):
    root, kind = copies(packaging), layout.PACKAGINGS[packaging]
    depth, semseg, normals = (root / kind.target_path(task, '0001') for task in ('depth', 'semseg', 'normals'))
    empty = np.full(SIZE, value, np.float32)
    if packaging == 'astmt':
        scipy.io.savemat(depth, {'depth': empty})
        scipy.io.savemat(semseg, {'segmentation': np.zeros(SIZE, np.uint8)})
    else:
        np.save(depth, empty)
        png(semseg, np.zeros(SIZE, np.uint8))
    if packaging == 'mtlp':
        np.save(normals, np.zeros((*SIZE, 3), np.float32))
    else:
        png(normals, np.full((*SIZE, 3), 127, np.uint8))
    expected = [str(path.relative_to(root)) for path in (semseg, depth, normals)]
    assert summary(root) == [(path, 'no labelled pixel') for path in expected]


def test_edge_of_nan(copies):
    root = copies('mtlp')
    np.save(root / 'edge' / '0001.npy', np.full(SIZE, np.nan, np.float32))
    assert summary(root) == [('edge/0001.npy', 'values out of range')]


def test_mat_without_its_variable_and_other_versions(copies):
    root = copies('astmt')
    scipy.io.savemat(root / 'depth' / '0001.mat', {'wrong': np.ones(SIZE)})
    (root / 'segmentation' / '0001.mat').write_bytes(b'MATLAB 7.3 MAT-file' + b'\0' * 600)
    assert sorted(summary(root)) == [
        ('depth/0001.mat', 'unreadable file'),
        ('segmentation/0001.mat', 'unreadable file'),
    ]


def test_split_files(copies):
    root = copies('atrc')
    splits = root / 'gt_sets'
    (splits / 'train.txt').write_bytes(b'0001\r0002\r0004\r0005\r')
    assert summary(root) == []
    (splits / 'train.txt').write_text('0001\n0001\n0002\n0003\n0004\n')
    (splits / 'val.txt').write_text('')
    assert summary(root) == [('gt_sets/train.txt', 'duplicate ids'), ('gt_sets/val.txt', 'empty split')]
    (splits / 'val.txt').write_text('0003\n0777\n')
    found = summary(root)
    assert ('gt_sets', 'duplicate ids') in found
    assert ('gt_sets/val.txt', 'unknown ids') in found
    (splits / 'val.txt').write_text('0003\n')
    assert ('gt_sets/val.txt', 'wrong count') in summary(root)
    (splits / 'val.txt').unlink()
    assert ('gt_sets/val.txt', 'missing file') in summary(root)
    (splits / 'val.txt').write_bytes(b'\xff\xfe\x00')
    assert ('gt_sets/val.txt', 'unreadable file') in summary(root)


def test_a_missing_folder_is_one_problem_and_not_one_per_file(copies):
    root = copies('mtlp')
    shutil.rmtree(root / 'normals')
    assert summary(root) == [('normals', 'missing folder')]


def test_unknown_packaging_is_a_problem(copies):
    root = copies('atrc')
    for path in (root / 'images').iterdir():
        path.rename(path.with_suffix('.jpg'))
    problems = check(root)
    assert [problem.kind for problem in problems] == ['unknown packaging']
    assert 'images: 6 .jpg' in problems[0].problem
    assert NYUDv2Check(root).describe()['packaging'] == 'not recognised'


def test_without_the_marker_the_real_counts_and_sizes_hold(copies):
    root = copies('atrc')
    (root / 'fixture.json').unlink()
    found = check(root)
    counts = [problem.detail for problem in found if problem.kind == 'wrong count']
    assert counts == ['expected 795 samples, found 4', 'expected 654 samples, found 2']
    sizes = [problem for problem in found if problem.kind == 'wrong size']
    assert len(sizes) == 5 * 6
    assert 'expected 425 x 560' in sizes[0].problem
    assert NYUDv2Check(root).describe()['content'] == 'real data'


@pytest.mark.parametrize('size', [layout.SIZE, layout.FULL_SIZE])
def test_sizes_of_the_undocumented_packagings(tmp_path, size):
    """Only the size of the third packaging is known; the others may also hold the full frames."""
    root = export_nyud(tmp_path / 'x', dict(train=1, val=1), size, packaging='mtlp', cache_dir=tmp_path / 'cache')
    (root / 'fixture.json').unlink()
    assert {kind for _, kind in summary(root)} == {'wrong count'}
    np.save(root / 'depth' / '0001.npy', np.ones((432, 576)))
    assert ('depth/0001.npy', 'wrong size') in summary(root)


@pytest.mark.parametrize('axes', [('x', 'y', 'z'), ('x', '-y', 'z'), ('-x', '-z', 'y')])
def test_axes_of_normals_are_measured(copies, axes):
    root = copies('mtlp')
    for path in (root / 'normals').iterdir():
        np.save(path, NormalAxes(axes).from_ours(np.load(path)))
    text = NYUDv2Check(root).describe()['normals']
    assert NormalAxes(axes).describe() in text
    assert ('use normal_axes' in text) == (axes != ('x', 'y', 'z'))
    assert (f'normal_axes={axes}' in text) == (axes != ('x', 'y', 'z'))
    kinds = [problem.kind for problem in verify(NYUDv2Check(root), stamps=False).problems]
    assert kinds == ([] if axes == ('x', 'y', 'z') else ['other axes of normals'])


def test_axes_that_cannot_be_measured(copies):
    root = copies('mtlp')
    rng = np.random.default_rng(0)
    for path in (root / 'normals').iterdir():
        vectors = rng.normal(size=(*SIZE, 3))
        np.save(path, vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
    assert 'cannot be told' in NYUDv2Check(root).describe()['normals']
    shutil.rmtree(root / 'normals')
    assert NYUDv2Check(root).describe()['normals'] == 'axes not measured'


def test_wrong_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='no nyud dataset'):
        NYUDv2Check(tmp_path)
    (tmp_path / 'val' / 'image').mkdir(parents=True)
    (tmp_path / 'val' / 'label').mkdir()
    with pytest.raises(FileNotFoundError, match='13 classes'):
        NYUDv2Check(tmp_path)
