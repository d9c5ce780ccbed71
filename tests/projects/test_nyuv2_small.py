"""The project with real images at a small size: what its data become, on a made-up folder."""

import numpy as np
import pytest

from projects.nyuv2_small import nyuv2_small
from projects.nyuv2_small.nyuv2_small import NAMES, SmallNYUv2, shrink


def test_targets_follow_the_image():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3), np.uint8)
    semseg = np.repeat([[3] * 30 + [39] * 30], 40, axis=0).astype(np.uint8)
    edge = np.zeros((40, 60), np.float32)
    edge[:, 29:31] = 1
    sample = dict(
        img=image,
        gt_semseg=semseg,
        gt_edge=edge,
        gt_depth=np.full((40, 60), 2.5, np.float32),
        gt_normals=np.tile(np.float32([0, 0, 1]), (40, 60, 1)),
    )
    small, targets = shrink(sample, (20, 30))
    assert small.shape == (20, 30, 3)
    assert set(targets) == set(nyuv2_small.TASKS)
    assert (targets['semseg'][:, :15] == 3).all()
    assert (targets['semseg'][:, 15:] == 255).all()  # class 40 is left out
    assert targets['edge'].any(axis=0).tolist() == [column in (14, 15) for column in range(30)]
    assert (targets['depth'] == 2.5).all()
    assert (targets['normals'] == [0, 0, 1]).all()
    assert targets['edge_texture'].shape == targets['keypoints2d'].shape == (20, 30)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    def samples(source, split, pipeline):
        rng = np.random.default_rng(len(split))
        one = lambda number: dict(  # noqa: E731
            img_path=f'{source}/{split}{number}.png',
            img=rng.integers(0, 256, (40, 60, 3), np.uint8),
            gt_semseg=np.full((40, 60), number, np.uint8),
            gt_edge=np.zeros((40, 60), np.float32),
            gt_depth=np.ones((40, 60), np.float32),
            gt_normals=np.tile(np.float32([0, 0, 1]), (40, 60, 1)),
        )
        return [one(number) for number in range(4)]

    monkeypatch.setattr(nyuv2_small, 'NYUDv2Dataset', samples)
    monkeypatch.setattr(nyuv2_small, 'Parallel', lambda n_jobs: lambda jobs: [f(*args) for f, args, _ in jobs])
    return tmp_path


def test_the_folder_is_read_back(folder):
    out = folder / 'out'
    assert nyuv2_small.main([str(folder), str(out), '--size', '20', '30']) == 0
    assert nyuv2_small.main([str(folder), str(out), '--size', '20', '30']) == 0  # nothing is made twice
    train, val = (
        SmallNYUv2(out, split=split, pipeline=[dict(type='mtl_plugins.LoadSampleFiles')]) for split in ('train', 'val')
    )
    assert (len(train), len(val)) == (2, 4)
    sample = train[1]
    assert (sample['gt_semseg'] == 2).all()
    assert {f'gt_{task}' for task in nyuv2_small.TASKS} == set(sample['seg_fields'])
    assert len(train.metainfo['palettes']['semseg']) == len(NAMES) == 39
