"""Rooms in the folders of MMSegmentation: what was rendered is what its own classes read."""

import cv2
import numpy as np
import pytest
from exporters.mmseg import depth_to_png, export_mmseg
from exporters.scenes import render_scenes
from mmengine.registry import DefaultScope

from mtl_plugins.config import load_config
from mtl_plugins.config.loading import configs_root
from mtl_plugins.datasets.rendering import CLASSES
from mtl_plugins.datasets.rendering.labels import PALETTE
from mtl_plugins.registry import DATASETS
from tests.support.tiny import load_tool

SIZE = (48, 64)
COUNTS = {'train': 3, 'val': 2}
DEPTH = 'depth_r18_1xb8-2k_rooms-96x96.py'


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(scope='module')
def root(tmp_path_factory, cache):
    return export_mmseg(tmp_path_factory.mktemp('export') / 'rooms', COUNTS, SIZE, cache_dir=cache)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_round_trip_through_the_loaders_of_mmseg(root, cache, split):
    cfg = load_config(configs_root() / 'mmseg' / DEPTH, data_root=str(root))
    assert cfg.metainfo == dict(classes=CLASSES, palette=PALETTE)
    settings = cfg[f'{split}_dataloader'].dataset
    settings.pipeline = cfg.test_pipeline
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(settings)
    assert len(dataset) == COUNTS[split]
    for sample, scene in zip(dataset, render_scenes(split, COUNTS[split], SIZE, cache_dir=cache)):
        np.testing.assert_array_equal(sample['inputs'].numpy(), scene['img'][..., ::-1].transpose(2, 0, 1))
        targets = sample['data_samples']
        np.testing.assert_array_equal(targets.gt_sem_seg.data[0].numpy(), scene['gt_semseg'])
        depth = targets.gt_depth_map.data[0].numpy()
        assert depth.dtype == np.float32
        np.testing.assert_allclose(depth, scene['gt_depth'], atol=0.00051)


def test_unknown_and_very_large_depth():
    depth = np.array([[0.0, np.nan, 1.2344, 99.0]], np.float32)
    assert depth_to_png(depth).tolist() == [[0, 0, 1234, 65535]]


def test_every_image_has_both_maps(root):
    names = [sorted(path.name for path in (root / folder / 'val').iterdir()) for folder in ('img_dir', 'ann_dir')]
    assert names[0] == names[1] == ['room_00000.png', 'room_00001.png']
    assert cv2.imread(str(root / 'depth_dir/val/room_00000.png'), cv2.IMREAD_UNCHANGED).dtype == np.uint16


def test_exports_do_not_harm_other_files(root, tmp_path, cache):
    export_mmseg(root, COUNTS, SIZE, cache_dir=cache)  # the same once more
    with pytest.raises(FileExistsError, match='does not hold the same export'):
        export_mmseg(root, {'train': 2, 'val': 2}, SIZE, cache_dir=cache)
    with pytest.raises(ValueError, match='splits train, val'):
        export_mmseg(tmp_path / 'new', {'test': 2}, SIZE, cache_dir=cache)


def test_the_tool(tmp_path, monkeypatch, cache, capsys):
    monkeypatch.setenv('MTL_PLUGINS_CACHE', str(cache))
    tool = load_tool('datasets/export_rooms.py')
    assert tool.main(['mmseg', str(tmp_path / 'rooms'), '--size', '48', '64', '--train', '1', '--val', '1']) == 0
    assert f'--data-root {tmp_path / "rooms"}' in capsys.readouterr().out
    assert tool.main(['mmseg', str(tmp_path / 'rooms'), '--train', '2']) == 2
    with pytest.raises(SystemExit):
        tool.main(['mmseg', str(tmp_path / 'other'), '--test', '1'])
