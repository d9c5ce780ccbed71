"""Every kind of damage is named with its file, and nothing else is."""

import shutil

import cv2
import numpy as np
import pytest
from exporters import export_taskonomy

from mtl_plugins.datasets.taskonomy import TASKS, layout
from mtl_plugins.datasets.taskonomy import check as check_module
from mtl_plugins.datasets.taskonomy.check import TaskonomyCheck
from mtl_plugins.datasets.verification import get_layout_check, verify

from .conftest import SIZE

BITS16 = ('depth_euclidean', 'depth_zbuffer', 'edge_occlusion', 'edge_texture', 'keypoints2d', 'keypoints3d')


def path_of(domain, building='allensville', point=9, view=0):
    name = 'segment25d' if domain == 'segment_unsup25d' else domain
    return f'{domain}/taskonomy/{building}/point_{point}_view_{view}_domain_{name}.png'


def problems(root):
    outcome = verify(TaskonomyCheck(root), stamps=False)
    assert all(problem.detail and problem.remedy for problem in outcome.problems)
    assert outcome.is_clean == (not outcome.problems)
    return [(problem.path, problem.kind) for problem in outcome.problems]


def edit(file, change):
    cv2.imwrite(str(file), change(cv2.imread(str(file), cv2.IMREAD_UNCHANGED)))


def truncate(file):
    file.write_bytes(file.read_bytes()[:-40])


def crop(file):
    edit(file, lambda image: image[:-8])


def other_bits(file):
    edit(file, lambda image: image.astype(np.uint8 if image.dtype == np.uint16 else np.uint16))


def to_page(file):
    file.write_bytes(b'<html>not found</html>')


def fill(value):
    return lambda file: edit(file, lambda image: np.full_like(image, value))


def grey(file):
    edit(file, lambda image: np.ascontiguousarray(image[..., 0]))


@pytest.mark.parametrize('mask_valid', [False, True])
@pytest.mark.parametrize('order', ['omnitools', 'building'])
def test_what_was_exported_is_clean_and_stays_untouched(cache, tmp_path, order, mask_valid):
    root = export_taskonomy(tmp_path / 't', size=SIZE, packaging=order, mask_valid=mask_valid, cache_dir=cache)
    before = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    outcome = verify(get_layout_check('taskonomy')(root))
    assert outcome.problems == ()
    assert outcome.num_samples == 8
    assert len(outcome.stamps) == outcome.num_files == 8 * (12 + mask_valid) + 1
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == before
    told = TaskonomyCheck(root).describe()
    assert told['images'] == 'train 4, val 2, test 2'
    assert told['known holes'] == 'none of them'
    assert 'rendered' in told['content']
    assert told['order'].startswith(order)


@pytest.mark.parametrize('damage', [truncate, to_page, crop, other_bits], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize('domain', ['rgb', 'reshading', 'keypoints3d'])
def test_damaged_files(root, domain, damage):
    damage(root / path_of(domain))
    kind = {truncate: 'unreadable file', to_page: 'unreadable file', crop: 'wrong size', other_bits: 'wrong format'}
    assert problems(root) == [(path_of(domain), kind[damage])]


@pytest.mark.parametrize('domain', ['rgb', 'normal', 'principal_curvature', 'depth_zbuffer'])
def test_another_number_of_channels(root, domain):
    def change(image):
        return np.repeat(image[..., None], 3, axis=-1) if image.ndim == 2 else np.ascontiguousarray(image[..., 0])

    edit(root / path_of(domain), change)
    assert problems(root) == [(path_of(domain), 'wrong format')]


def test_what_the_papers_leave_open_is_no_damage(root):
    grey(root / path_of('reshading'))
    edit(root / path_of('segment_unsup2d'), lambda image: np.repeat(image[..., None], 3, axis=-1))
    for domain in ('rgb', 'normal', 'principal_curvature'):
        edit(root / path_of(domain), lambda image: cv2.cvtColor(image, cv2.COLOR_BGR2BGRA))
    assert problems(root) == []


@pytest.mark.parametrize(
    ('domain', 'value'),
    [('depth_euclidean', 65535), ('depth_zbuffer', 65535), ('normal', 128), ('principal_curvature', 0)],
)
def test_nothing_known(root, domain, value):
    fill(value)(root / path_of(domain))
    assert problems(root) == [(path_of(domain), 'no labelled pixel')]


@pytest.mark.parametrize(
    ('domain', 'value'), [('depth_euclidean', 0), ('depth_zbuffer', 5), ('depth_euclidean', 60000), ('normal', 255)]
)
def test_values_of_something_else(root, domain, value):
    fill(value)(root / path_of(domain))
    assert (path_of(domain), 'values out of range') in problems(root)


def test_depths_that_were_swapped(root):
    near, far = root / path_of('depth_zbuffer'), root / path_of('depth_euclidean')
    kept = near.read_bytes()
    near.write_bytes(far.read_bytes())
    far.write_bytes(kept)
    assert problems(root) == [(path_of('depth_euclidean'), 'values out of range')]


@pytest.mark.parametrize('domain', ['rgb', 'edge_texture', 'segment_unsup25d'])
def test_a_missing_view_and_a_missing_domain(root, domain):
    (root / path_of(domain)).unlink()
    assert problems(root) == [(path_of(domain), 'missing view')]
    shutil.rmtree(root / domain)
    assert problems(root) == [(domain, 'missing domain')]


def test_missing_folders(root):
    shutil.rmtree(root / 'normal/taskonomy/allensville')
    assert problems(root) == [('normal/taskonomy/allensville', 'missing folder')]
    for domain in layout.DOMAINS:
        shutil.rmtree(root / domain / 'taskonomy/ihlen')
    path = layout.SPLIT_FILE
    assert problems(root) == [
        ('normal/taskonomy/allensville', 'missing folder'),
        ('rgb/taskonomy/ihlen', 'missing folder'),
        (path, 'wrong count'),
    ]


def test_many_missing_files_are_counted(root, monkeypatch):
    monkeypatch.setattr(check_module, '_NAMED', 1)
    for file in (root / 'normal/taskonomy/beechwood').iterdir():
        file.unlink()
    outcome = verify(TaskonomyCheck(root), content=False)
    assert [(problem.path, problem.problem) for problem in outcome.problems] == [
        ('normal/taskonomy/beechwood', 'missing view: 2 images that other domains have')
    ]


def test_two_files_for_one_view(root):
    shutil.copy(root / path_of('normal'), root / path_of('normal').replace('domain_normal', 'domain_normals'))
    assert problems(root) == [('normal/taskonomy/allensville', 'duplicate ids')]


def test_split_files(root):
    path = root / layout.SPLIT_FILE
    raw = path.read_bytes()
    for end in (b'\n', b'\r\n', b'\r'):
        path.write_bytes(raw.replace(b'\r', end))
        assert problems(root) == []
    lines = raw.split(b'\r')
    for content, kind in (
        (b'', 'unreadable file'),
        (raw.replace(b'id,', b'name,'), 'unreadable file'),
        (b'\r'.join(lines[:-2]) + b'\r', 'wrong count'),
        (raw + lines[-2] + b'\r', 'duplicate ids'),
    ):
        path.write_bytes(content)
        assert problems(root) == [(layout.SPLIT_FILE, kind)]
    path.unlink()
    assert problems(root) == [(layout.SPLIT_FILE, 'missing file')]


def test_an_empty_split(root):
    path = root / layout.SPLIT_FILE
    path.write_bytes(b'\r'.join(line for line in path.read_bytes().split(b'\r') if not line.endswith(b',0,1')) + b'\r')
    assert problems(root) == [(layout.SPLIT_FILE, 'empty split')]


def test_known_holes_are_told_and_no_problems(cache, tmp_path):
    buildings = dict(train=('allensville', 'woodbine'), val=('wiconisco',))
    root = export_taskonomy(tmp_path / 't', size=SIZE, buildings=buildings, cache_dir=cache)
    (root / 'fixture.json').unlink()  # its counts are those before the holes; sizes are then those of the real data
    for domain in layout.DOMAINS:
        shutil.rmtree(root / domain / 'taskonomy/woodbine')
    (root / path_of('edge_texture', 'wiconisco', 9, 0)).unlink()
    check = TaskonomyCheck(root)
    assert list(check.structure()) == []
    assert check.describe()['known holes'] == ('building woodbine (known); 1 file of edge_texture in wiconisco (known)')
    assert {problem.kind for problem in verify(check).problems} == {'wrong size'}
    (root / path_of('edge_occlusion', 'wiconisco', 9, 0)).unlink()
    assert [problem.kind for problem in TaskonomyCheck(root).structure()] == ['missing view']


def test_the_axes_of_the_normals_are_measured(root):
    assert (
        TaskonomyCheck(root)
        .describe()['normals']
        .startswith('channel 0 right, channel 1 down, channel 2 away from the viewer (measured against depth')
    )
    for file in root.glob('normal/taskonomy/*/*'):
        edit(file, lambda image: image[..., [1, 0, 2]])  # as OpenCV has it: blue, green, red
    told = TaskonomyCheck(root).describe()['normals']
    assert told.endswith("use normal_axes=('x', '-z', '-y')")
    # It was information alone; nothing of it is noticed where files are not opened.
    (problem,) = verify(TaskonomyCheck(root)).problems
    assert (problem.path, problem.kind) == ('normal', 'other axes of normals')
    assert "found ('x', '-z', '-y')" in problem.detail
    assert "normal_axes=('x', '-z', '-y')" in problem.remedy
    assert not verify(TaskonomyCheck(root), content=False).problems
    shutil.rmtree(root / 'normal')
    assert TaskonomyCheck(root).describe()['normals'] == 'axes not measured'


def test_masks_are_checked_too(cache, tmp_path):
    root = export_taskonomy(tmp_path / 't', size=SIZE, mask_valid=True, cache_dir=cache)
    truncate(root / path_of('mask_valid'))
    assert problems(root) == [(path_of('mask_valid'), 'unreadable file')]


def test_bits_of_all_tasks_are_as_in_the_download(exported):
    for task in TASKS:
        image = cv2.imread(str(exported / path_of(task)), cv2.IMREAD_UNCHANGED)
        assert image.dtype == (np.uint16 if task in BITS16 else np.uint8)
        assert image.shape[:2] == SIZE
        assert (image.ndim == 3) == (task in ('normal', 'principal_curvature', 'reshading'))
