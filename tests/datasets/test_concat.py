import pytest
from mmengine.dataset import BaseDataset, RepeatDataset

from mtl_plugins.datasets import AbsoluteSampler, MultiTaskConcatDataset
from mtl_plugins.registry import DATASETS

from .test_samplers import Positions


def dataset(tasks=('depth',), size=2, **meta):
    return Positions(size, metainfo=dict(tasks=tasks, **meta))


def test_the_tasks_are_the_union_in_order():
    joint = MultiTaskConcatDataset([dataset(('depth', 'semseg'), 3), dataset(('normals', 'depth'), 4)])
    assert joint.metainfo['tasks'] == ('depth', 'semseg', 'normals')
    assert len(joint) == 7


def test_samples_keep_their_place_and_position():
    joint = MultiTaskConcatDataset([dataset(size=3), dataset(size=4)])
    seen = [joint[index] for index, _ in zip(AbsoluteSampler(joint, shuffle=False), range(14))]
    assert [each['index'] for each in seen] == [0, 1, 2, 0, 1, 2, 3] * 2
    assert [each['position'] for each in seen] == list(range(14))


def test_meta_information_is_merged_by_task():
    one = dict(
        classes=dict(semseg=('a', 'b')), palettes=dict(semseg=[(1, 1, 1)]), dataset='one', seed=3, licence='free'
    )
    two = dict(
        classes=dict(human_parts=['c'], semseg=['a', 'b']), palettes=dict(semseg=[(2, 2, 2)]), dataset='two', seed=3
    )
    joint = MultiTaskConcatDataset([dataset(('semseg',), **one), dataset(('human_parts', 'semseg'), **two)])
    assert joint.metainfo['classes'] == dict(semseg=('a', 'b'), human_parts=('c',))
    assert joint.metainfo['palettes'] == dict(semseg=[(1, 1, 1)])
    assert {key: joint.metainfo.get(key) for key in ('dataset', 'seed', 'licence')} == dict(
        dataset=None, seed=3, licence=None
    )
    replaced = MultiTaskConcatDataset([dataset()], metainfo=dict(dataset='mine'))
    assert replaced.metainfo['dataset'] == 'mine'


@pytest.mark.parametrize(
    ('first', 'second', 'found'),
    [
        (('a', 'b'), ('a', 'c'), "number 1 is 'b' and 'c'"),
        (('a', 'b'), ('a', 'b', 'c'), '2 and 3'),
    ],
)
def test_data_sets_must_agree_on_classes(first, second, found):
    parts = [dataset(('semseg',), classes=dict(semseg=names)) for names in (first, second)]
    where = r"task 'semseg' has other classes in datasets\[0\] \(Positions\) than in datasets\[1\] \(Positions\)"
    with pytest.raises(ValueError, match=f'{where}: {found}\\.'):
        MultiTaskConcatDataset(parts)


def test_classes_of_tasks_that_a_data_set_does_not_give_are_no_matter():
    parts = [dataset(('semseg',), classes=dict(semseg=('a',))), dataset(('depth',), classes=dict(semseg=('b', 'c')))]
    assert MultiTaskConcatDataset(parts).metainfo['classes'] == dict(semseg=('a',))


def test_data_sets_must_agree_on_channels():
    task = 'principal_curvature'  # two channels in the task table
    three, table = dataset((task,), channels={task: 3}), dataset((task,))
    with pytest.raises(ValueError, match=r'other channels .*: 3 and 2'):
        MultiTaskConcatDataset([three, table])
    assert MultiTaskConcatDataset([three, three]).metainfo['channels'] == {task: 3}
    assert MultiTaskConcatDataset([table, table]).metainfo['channels'] == {}


@pytest.mark.parametrize(
    ('task', 'one', 'other', 'found'),
    [
        ('edge_texture', dict(value_ranges=dict(edge_texture=(-1, 1))), {}, r'\(-1.0, 1.0\) and \(0.0, 1.0\)'),
        ('depth_zbuffer', {}, dict(value_ranges=dict(depth_zbuffer=(0, 9))), r'those of the data and \(0.0, 9.0\)'),
        ('principal_curvature', dict(units=dict(principal_curvature='1/(0.1 m)')), {}, r'1/\(0.1 m\) and '),
        ('depth', dict(units=dict(depth='mm')), {}, 'mm and m'),
    ],
)
def test_data_sets_must_agree_on_the_scale_of_values(task, one, other, found):
    key = next(iter({**one, **other}))
    with pytest.raises(ValueError, match=f"task '{task}' has other {key} in .*: {found}"):
        MultiTaskConcatDataset([dataset((task,), **one), dataset((task,), **other)])
    assert MultiTaskConcatDataset([dataset((task,), **one)] * 2).metainfo.get(key, {}) == one.get(key, {})


def test_ranges_of_values_with_a_unit_are_for_pictures():
    parts = [dataset(value_ranges=dict(depth=span)) for span in ((0, 5), (0, 9))]
    assert MultiTaskConcatDataset(parts).metainfo['value_ranges'] == dict(depth=(0, 5))


def test_built_from_a_config_also_around_other_wrappers(tmp_path):
    rooms = dict(
        type='mtl_plugins.RoomsDataset', num_images=2, size=(16, 16), tasks=('depth',), cache_dir=str(tmp_path)
    )
    cfg = dict(
        type='mtl_plugins.MultiTaskConcatDataset',
        datasets=[rooms, dict(type='RepeatDataset', times=3, dataset={**rooms, 'tasks': ('sal',)})],
    )
    joint = DATASETS.build(cfg)
    assert (len(joint), joint.metainfo['tasks']) == (8, ('depth', 'sal'))
    assert isinstance(joint.datasets[1], RepeatDataset)
    assert joint.get_data_info(7)['tasks'] == ('sal',)


@pytest.mark.parametrize(
    ('datasets', 'error', 'message'),
    [
        ([], ValueError, r'datasets must be a list of datasets, but got \[\]'),
        ([range(3)], TypeError, 'must be configs or datasets of MMEngine, but got range'),
        ([BaseDataset(lazy_init=True)], ValueError, r'datasets\[0\] \(BaseDataset\) does not name its tasks'),
        ([dataset(classes=('a', 'b'))], ValueError, r"metainfo\['classes'\] of datasets\[0\] .* but got tuple"),
    ],
)
def test_mistakes_are_named(datasets, error, message):
    with pytest.raises(error, match=message):
        MultiTaskConcatDataset(datasets)
