"""Two views of the real data, where the machine has them: ``MTL_PLUGINS_DATA`` names the folder above."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from mtl_plugins.datasets.files import NormalAxes, measure_axes
from mtl_plugins.datasets.taskonomy import CODINGS, TASKS, TaskonomyDataset
from mtl_plugins.datasets.taskonomy.check import TaskonomyCheck
from mtl_plugins.datasets.taskonomy.decoding import PICTURE_TASKS, read_codes
from mtl_plugins.datasets.verification import verify

VIEWS = {'allensville': 'point_202_view_5', 'collierville': 'point_47_view_25'}


@pytest.fixture(scope='module')
def genuine(tmp_path_factory):
    """The files in the folders of the download, one view to train on and one to validate."""
    source = Path(os.environ.get('MTL_PLUGINS_DATA', '')) / 'taskonomy_genuine'
    if 'MTL_PLUGINS_DATA' not in os.environ or not source.is_dir():
        pytest.skip('needs genuine files: MTL_PLUGINS_DATA/taskonomy_genuine')
    root = tmp_path_factory.mktemp('genuine')
    for building, view in VIEWS.items():
        for file in source.glob(f'*/{view}_*.png'):
            folder = root / file.parent.name / 'taskonomy' / building
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file.name).symlink_to(file)
    return root


def test_nothing_is_wrong_with_them(genuine):
    check = TaskonomyCheck(genuine)
    assert [problem for problem in verify(check, stamps=False).problems if problem.kind != 'missing folder'] == []
    assert 'channel 2 away from the viewer' in check.describe()['normals']


@pytest.mark.parametrize('split', ['train', 'val'])
def test_normals_agree_with_the_depth(genuine, cache, split):
    """0.08 of the first view with ``('x', '-y', 'z')``, the former default."""
    dataset = TaskonomyDataset(genuine, split, ['normal', 'depth_zbuffer'], allow_missing=True, cache_dir=cache)
    reader, info = dataset.reader, dataset.get_data_info(0)
    normal = reader.read_target('normal', dict(info))
    codes = read_codes('depth_zbuffer', info['files']['depth_zbuffer'])
    metres = np.where(codes == 65535, 0, codes / 512)
    axes, agreement = measure_axes([(metres, normal)], 0.85 * 512)
    assert axes.axes == NormalAxes().axes
    assert agreement > 0.95


def test_holes_and_ranges(genuine, cache):
    dataset = TaskonomyDataset(genuine, 'train', allow_missing=True, cache_dir=cache)
    info = dataset.get_data_info(0)
    codes = {task: read_codes(task, info['files'][task]) for task in TASKS}
    holes = codes['depth_zbuffer'] == 65535
    assert holes.sum() == 20294
    np.testing.assert_array_equal(codes['depth_euclidean'] == 65535, holes)
    np.testing.assert_array_equal((codes['normal'] == 128).all(-1), holes)
    curvature = (codes['principal_curvature'] == 0).all(-1)
    assert curvature[holes].all()
    assert curvature[~holes].sum() == 38
    assert not codes['edge_occlusion'][holes].any()
    for task in TASKS:
        target = dataset.reader.read_target(task, info)
        labelled = target.any(-1) if task == 'normal' else np.isfinite(target.reshape(512, 512, -1)).all(-1)
        if task in PICTURE_TASKS:
            assert labelled.all()
            continue
        assert not labelled[holes].any(), 'what fills the holes of a task is never trained on'
        near = cv2.dilate((holes | (curvature & (task == 'principal_curvature'))).astype(np.uint8), np.ones((5, 5)))
        np.testing.assert_array_equal(labelled, near == 0)
        span = CODINGS[task].value_range
        if span and task != 'edge_occlusion':
            assert span[0] <= np.nanmin(target)
            assert np.nanmax(target) <= span[1]
