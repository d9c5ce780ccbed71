"""Options of the tools on configs with several datasets."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mtl_plugins.config import load_config, set_tasks
from mtl_plugins.config.datasets import LOADERS, broken_cover, keep_tasks, leaf_datasets, set_data_root

ROOT = Path(__file__).parents[2]
BOTH = ROOT / 'configs/rooms/stgu_vit-micro_8b-2k_rooms-photos-96.py'
PARTIAL = ROOT / 'configs/rooms/stgu_vit-micro_8b-2k_rooms-96-partial.py'


def tasks_of(cfg):
    return [(dataset.type.rpartition('.')[2], list(dataset.tasks)) for _, dataset in leaf_datasets(cfg)]


def test_each_data_set_keeps_its_own_of_the_tasks():
    cfg = load_config(BOTH, tasks=['keypoints2d', 'sal', 'depth'])
    assert tasks_of(cfg) == [('RoomsDataset', ['sal', 'depth']), ('PhotosDataset', ['keypoints2d'])] * 3
    assert list(cfg.model.heads) == list(cfg.val_evaluator.tasks) == ['keypoints2d', 'sal', 'depth']


def test_a_data_set_without_any_of_the_tasks_is_left_out_with_its_weight():
    cfg = load_config(BOTH, {'train_dataloader.sampler.mixing': [1, 3]})
    assert cfg.train_dataloader.sampler.mixing == [1, 3]
    set_tasks(cfg, ['edge_texture'])
    assert tasks_of(cfg) == [('PhotosDataset', ['edge_texture'])] * 3
    assert cfg.train_dataloader.sampler.mixing == [3]


def test_labels_are_drawn_for_all_tasks_also_where_some_are_trained():
    subsets = [load_config(PARTIAL, tasks=tasks).train_dataloader.dataset.pipeline[1] for tasks in (None, ['sal'])]
    assert subsets[0] == subsets[1]
    assert list(subsets[0].tasks) == ['semseg', 'depth', 'normals', 'edge', 'sal']


def test_tasks_by_the_class_of_a_data_set_that_names_none():
    datasets = [dict(type='mtl_plugins.RoomsDataset'), dict(type='mtl_plugins.NYUDv2Dataset'), dict(type='Other')]
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='X', datasets=datasets))))
    keep_tasks(cfg, ['human_parts', 'edge'])
    assert tasks_of(cfg) == [
        ('RoomsDataset', ['human_parts', 'edge']),
        ('NYUDv2Dataset', ['edge']),
        ('Other', ['human_parts', 'edge']),
    ]


def test_tasks_inside_nested_wrappers():
    repeated = dict(type='RepeatDataset', times=2, dataset=dict(type='A', tasks=['sal', 'edge']))
    nested = dict(type='RepeatDataset', times=2, dataset=dict(datasets=[repeated, dict(type='B', tasks=['depth'])]))
    cfg = Config(dict(val_dataloader=dict(dataset=nested)))
    keep_tasks(cfg, ['edge'])
    assert tasks_of(cfg) == [('A', ['edge'])]


def test_tasks_that_no_data_set_has():
    cfg = load_config(BOTH)
    with pytest.raises(ValueError, match=r'none of the datasets of train_dataloader\.dataset has reshading'):
        keep_tasks(cfg, ['reshading'])


def test_data_root_is_for_the_data_sets_that_read_a_folder():
    cfg = load_config(BOTH, data_root='my/photos')
    assert [dataset.get('root') for _, dataset in leaf_datasets(cfg)] == [None, 'my/photos'] * 3
    assert not any('data_root' in dataset for _, dataset in leaf_datasets(cfg))
    cfg.pop('train_dataloader')
    set_data_root(cfg, 'other')
    assert [dataset.get('root') for _, dataset in leaf_datasets(cfg)] == [None, 'other'] * 2


@pytest.mark.parametrize('path', [BOTH, PARTIAL])
def test_shipped_batches_have_every_task(path):
    cfg = load_config(path)
    assert cfg.train_dataloader.sampler.cover == 8
    for processes in (1, 2, 3):
        assert all(broken_cover(cfg[name], processes) is None for name in LOADERS)


def test_batches_that_are_no_multiple_of_cover_are_told():
    loader = dict(batch_size=6, sampler=dict(cover=8))
    assert 'batches have 6 x 1 samples' in broken_cover(loader)
    assert broken_cover(loader, 4) is None
    assert broken_cover(None) is None
