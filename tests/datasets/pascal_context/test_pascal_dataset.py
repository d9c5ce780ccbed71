import json
import pickle
import shutil

import numpy as np
import pytest
import scipy.io
import torch
from exporters import pascal_context as export
from exporters.mannequins import to_struct
from exporters.pascal_context import write_palette_png
from exporters.scenes import render_scenes
from PIL import Image
from torch.utils.data import DataLoader

from mtl_plugins.datasets import PascalContextMTDataset, UnreadableFileError
from mtl_plugins.datasets.pascal_context import classes, layout
from mtl_plugins.datasets.pascal_context.decoding import label_borders, label_edges
from mtl_plugins.datasets.pascal_context.parts import PartObject, read_objects
from mtl_plugins.registry import DATASETS
from tests.support.programs import Program, run_together

from .conftest import COUNTS, SIZE

LOAD = (dict(type='mtl_plugins.LoadSampleFiles'), dict(type='mtl_plugins.CheckTargets'))


@pytest.fixture(scope='session')
def scenes(render_cache):
    """The rooms that were exported, per split."""
    return {split: list(export._scenes(split, count, SIZE, 0, render_cache, 0)) for split, count in COUNTS.items()}


@pytest.fixture
def build(tmp_path):
    """Build the dataset with a cache of its own."""

    def build(root, pipeline=LOAD, **options):
        return PascalContextMTDataset(root, pipeline=pipeline, cache_dir=tmp_path / 'cache', **options)

    return build


def ids_of(dataset):
    return [dataset.get_data_info(index)['sample_id'] for index in range(len(dataset))]


@pytest.mark.parametrize('split', ['train', 'val'])
def test_what_was_exported_is_loaded(exported, build, scenes, split):
    dataset = build(exported, split=split)
    assert len(dataset) == COUNTS[split]
    assert len({sample['img'].shape for sample in dataset}) == 3
    for sample, scene in zip(dataset, scenes[split]):
        assert sample['img'].dtype == np.uint8
        difference = sample['img'][..., ::-1].astype(float) - scene['img']
        assert np.sqrt(np.mean(difference**2)) < 12  # JPEG
        np.testing.assert_array_equal(sample['gt_human_parts'], scene['gt_human_parts'])
        np.testing.assert_array_equal(sample['gt_sal'], scene['gt_sal'])
        assert sample['ori_shape'] == scene['img'].shape[:2]
        assert sample['seg_fields'] == [f'gt_{task}' for task in layout.TASKS]


def test_classes_are_those_of_voc(exported, build, scenes):
    for sample, scene in zip(build(exported, tasks=['semseg']), scenes['train']):
        rooms, voc = scene['gt_semseg'], sample['gt_semseg']
        for name, number in (('person', 15), ('chair', 9), ('table', 11), ('sofa', 18), ('wall', 0), ('lamp', 0)):
            assert (voc[rooms == export.CLASSES.index(name)] == number).all()
        assert (voc[rooms == 255] == 255).all()


def test_normals_are_unit_vectors_where_the_class_has_some(exported, build, scenes):
    known_before = known = 0
    for sample, scene in zip(build(exported, tasks=['normals']), scenes['train']):
        normals, rooms = sample['gt_normals'], scene['gt_semseg']
        assert normals.dtype == np.float32
        valid = ~np.isin(rooms, [export.CLASSES.index('ornament'), 255])
        assert not normals[~valid].any()
        cosine = (normals * scene['gt_normals']).sum(-1)[valid]
        assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 0.6  # 8 bits
        known_before, known = known_before + rooms.size, known + valid.sum()
    assert known < known_before


def test_edges_are_those_of_the_label_map(exported, build):
    dataset = build(exported, tasks=['edge'])
    for index, sample in enumerate(dataset):
        path = exported / layout.LABEL_MAPS / f'{ids_of(dataset)[index]}.mat'
        labels = scipy.io.loadmat(path)['LabelMap']
        assert labels.dtype == np.uint16
        np.testing.assert_array_equal(sample['gt_edge'], label_edges(labels))
        assert 0 < sample['gt_edge'].mean() < 0.2


def test_edges_by_the_rule_of_the_evaluation(exported, build):
    dataset = build(exported, tasks=['edge'], edge_rule='borders')
    path = exported / layout.LABEL_MAPS / f'{ids_of(dataset)[0]}.mat'
    labels = scipy.io.loadmat(path)['LabelMap']
    np.testing.assert_array_equal(dataset[0]['gt_edge'], label_borders(labels))
    assert (dataset[0]['gt_edge'] != label_edges(labels)).any()
    with pytest.raises(ValueError, match=r"edge_rule must be one of \('laplacian', 'borders'\)"):
        build(exported, edge_rule='canny')


@pytest.mark.parametrize('tasks', [['semseg'], ['edge', 'sal'], ['normals', 'human_parts', 'semseg'], layout.TASKS])
def test_any_subset_of_tasks(exported, build, tasks):
    dataset = build(exported, tasks=tasks)
    assert dataset.metainfo['tasks'] == tuple(tasks)
    assert set(dataset.metainfo['classes']) == set(tasks) & {'semseg', 'human_parts'}
    assert [len(dataset.metainfo['classes'][task]) for task in dataset.metainfo['classes']] == [
        {'semseg': 21, 'human_parts': 7}[task] for task in dataset.metainfo['classes']
    ]
    for sample in dataset:
        assert sample['seg_fields'] == [f'gt_{task}' for task in tasks]
        assert {key for key in sample if key.startswith('gt_')} == set(sample['seg_fields'])


def test_files_of_other_tasks_are_not_needed(copy, build):
    for folder in ('human_parts', 'sal_distill', 'semseg', 'ImageSets/Parts'):
        shutil.rmtree(copy / folder)
    assert len(list(build(copy, tasks=['normals', 'edge']))) == COUNTS['train']


@pytest.mark.parametrize('name', layout.FOLDERS)
def test_the_folder_or_its_parent(copy, build, name, tmp_path):
    folder = copy.rename(tmp_path / 'data' / name) if (tmp_path / 'data').mkdir() is None else None
    assert build(folder).root == build(folder.parent).root == folder


def test_a_wrong_folder_says_what_was_looked_for(build, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'ImageSets/Context/train\.txt.*PASCAL_MT.*verify\.py pascal_context'):
        build(tmp_path)
    with pytest.raises(FileNotFoundError, match='does not exist'):
        build(tmp_path / 'nowhere')


def test_by_its_name_in_a_config(exported, tmp_path):
    config = dict(type='mtl_plugins.PascalContextMTDataset', data_root=str(exported), cache_dir=str(tmp_path))
    assert type(DATASETS.build(config)) is PascalContextMTDataset


# Semantic labels


def test_voc12_comes_first(copy, build):
    dataset = build(copy, tasks=['semseg'])
    before = [sample['gt_semseg'] for sample in dataset]
    for index, identifier in enumerate(ids_of(dataset)):
        here, there = (copy / folder / f'{identifier}.png' for folder in (layout.SEMSEG, layout.SEMSEG_FALLBACK))
        assert (here if index % 2 == 0 else there).is_file()
        if index % 2 == 0:
            write_palette_png(there, np.full_like(before[index], 7))
        else:
            write_palette_png(here, np.full_like(before[index], 7))
    for index, sample in enumerate(build(copy, tasks=['semseg'])):
        expected = before[index] if index % 2 == 0 else np.full_like(before[index], 7)
        np.testing.assert_array_equal(sample['gt_semseg'], expected)


def test_only_one_of_the_folders(copy, build):
    for path in (copy / layout.SEMSEG).iterdir():
        path.rename(copy / layout.SEMSEG_FALLBACK / path.name)
    (copy / layout.SEMSEG).rmdir()
    assert len(list(build(copy, tasks=['semseg']))) == COUNTS['train']


# Parts of people


def write_nobody(copy, identifier, size):
    chair = PartObject('chair', 9, np.ones(size, bool), ())
    scipy.io.savemat(copy / 'human_parts' / f'{identifier}.mat', to_struct(identifier, [chair]))


def with_people(exported, split='train'):
    lists = json.loads((exported / layout.part_list_file(split)).read_text())
    return [identifier for identifier, found in lists.items() if classes.PERSON in found]


def test_the_export_has_images_with_and_without_people(exported):
    assert 0 < len(with_people(exported)) < COUNTS['train']
    assert with_people(exported, 'val')


@pytest.mark.parametrize('lists', ['right', 'absent'])
def test_images_without_people_are_dropped_if_parts_are_the_only_task(copy, build, lists):
    expected = with_people(copy)
    if lists == 'absent':
        shutil.rmtree(copy / 'ImageSets/Parts')
    assert ids_of(build(copy, tasks=['human_parts'])) == expected
    assert ids_of(build(copy, tasks=['human_parts', 'semseg'], persons_only=True)) == expected
    assert ids_of(build(copy, tasks=['edge'], persons_only=True)) == expected
    assert len(build(copy, tasks=['human_parts'], persons_only=False)) == COUNTS['train']
    assert len(build(copy, tasks=['human_parts', 'sal'])) == COUNTS['train']


@pytest.mark.parametrize('lists', ['right', 'absent'])
def test_nobody_means_that_all_is_ignored(copy, build, lists):
    someone = set(with_people(copy))
    if lists == 'absent':
        shutil.rmtree(copy / 'ImageSets/Parts')
    dataset = build(copy, tasks=['human_parts', 'sal'])
    for _ in range(2):  # from the file, then from the cache
        for index, sample in enumerate(dataset):
            assert sample['gt_human_parts'].shape == sample['img'].shape[:2]
            assert (sample['gt_human_parts'] == 255).all() == (ids_of(dataset)[index] not in someone)


def test_a_person_without_parts_is_a_person_but_all_is_ignored(copy, build):
    identifier = with_people(copy)[0]
    path = copy / 'human_parts' / f'{identifier}.mat'
    person = next(item for item in read_objects(path) if item.class_index == classes.PERSON)
    bare = PartObject(person.name, person.class_index, person.mask, ())
    scipy.io.savemat(path, to_struct(identifier, [bare]))
    shutil.rmtree(copy / 'ImageSets/Parts')
    dataset = build(copy, tasks=['human_parts'])
    sample = dataset[ids_of(dataset).index(identifier)]
    assert (sample['gt_human_parts'] == 255).all()


def test_a_repaired_annotation_is_read_again(copy, build):
    dataset = build(copy, tasks=['human_parts'])
    before = dataset[0]['gt_human_parts']
    path = copy / 'human_parts' / f'{ids_of(dataset)[0]}.mat'
    flipped = [
        PartObject(
            item.name, item.class_index, item.mask[::-1], tuple(type(p)(p.name, p.mask[::-1]) for p in item.parts)
        )
        for item in read_objects(path)
    ]
    scipy.io.savemat(path, to_struct('a', flipped))
    np.testing.assert_array_equal(dataset[0]['gt_human_parts'], before[::-1])


def test_nobody_at_all(copy, build):
    for path in (copy / 'human_parts').iterdir():
        write_nobody(copy, path.stem, (4, 4))
    shutil.rmtree(copy / 'ImageSets/Parts')
    with pytest.raises(ValueError, match='no image shows people'):
        build(copy, tasks=['human_parts'])


@pytest.mark.parametrize('value', ['yes', 2])
def test_persons_only_is_checked(exported, build, value):
    with pytest.raises(ValueError, match='persons_only'):
        build(exported, persons_only=value)


# Some of the images


def test_an_ids_file_restricts_the_split(exported, build, tmp_path):
    ids = ids_of(build(exported, split='val'))
    path = tmp_path / 'ids.txt'
    path.write_bytes('\r'.join([ids[2], ids[0]]).encode())
    assert ids_of(build(exported, split='val', ids_file=path)) == [ids[0], ids[2]]
    path.write_text('2010_123456\n')
    with pytest.raises(ValueError, match=r"ids_file=.*ids that are not in split 'val': 2010_123456"):
        build(exported, split='val', ids_file=path)


@pytest.mark.parametrize('ends', ['\r\n', '\r'])
def test_split_files_of_other_systems(copy, build, ends):
    path = copy / layout.split_file('train')
    path.write_bytes(ends.join(path.read_text().split()).encode())
    assert len(build(copy)) == COUNTS['train']


def test_an_empty_and_an_absent_split(copy, build):
    (copy / layout.split_file('train')).write_text('\n')
    with pytest.raises(ValueError, match='split is empty'):
        build(copy)
    (copy / layout.split_file('train')).unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.txt is missing.*split 'train'"):
        build(copy)


# Missing and damaged files

FILES = {
    'semseg': 'semseg/VOC12/{}.png',
    'human_parts': 'human_parts/{}.mat',
    'sal': 'sal_distill/{}.png',
    'normals': 'normals_distill/{}.png',
}


@pytest.mark.parametrize('task', FILES)
def test_missing_files(copy, build, task):
    identifier = ids_of(build(copy))[0]
    (copy / FILES[task].format(identifier)).unlink()
    with pytest.raises(FileNotFoundError, match=rf'1 of the files.*\n.*{identifier}'):
        build(copy)
    dataset = build(copy, allow_missing=True)
    assert f'gt_{task}' not in dataset[0]['seg_fields']
    assert len(dataset[0]['seg_fields']) == 4
    assert len(dataset[1]['seg_fields']) == 5


def test_a_missing_label_map_costs_edges_and_normals(copy, build):
    identifier = ids_of(build(copy))[0]
    (copy / layout.LABEL_MAPS / f'{identifier}.mat').unlink()
    assert len(build(copy, tasks=['semseg', 'sal'])) == COUNTS['train']
    assert build(copy, allow_missing=True)[0]['seg_fields'] == ['gt_semseg', 'gt_human_parts', 'gt_sal']


@pytest.mark.parametrize('lists', ['right', 'absent'])
def test_missing_annotations_if_parts_are_the_only_task(copy, build, lists):
    identifier = with_people(copy)[0]
    expected = with_people(copy)[1:]
    (copy / 'human_parts' / f'{identifier}.mat').unlink()
    if lists == 'absent':
        shutil.rmtree(copy / 'ImageSets/Parts')
    with pytest.raises(FileNotFoundError, match=identifier):
        build(copy, tasks=['human_parts'])
    dataset = build(copy, tasks=['human_parts'], allow_missing=True)
    assert [i for i in ids_of(dataset) if dataset.get_data_info(ids_of(dataset).index(i))['files']] == expected


@pytest.mark.parametrize('task', ['image', *FILES, 'edge'])
def test_truncated_files_are_named(copy, build, task):
    dataset = build(copy)
    identifier = ids_of(dataset)[0]
    names = {**FILES, 'image': 'JPEGImages/{}.jpg', 'edge': 'pascal-context/trainval/{}.mat'}
    path = copy / names[task].format(identifier)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableFileError, match=path.name):
        dataset[0]


def test_a_label_of_another_size_is_resized(copy, build):
    path = copy / 'sal_distill' / f'{ids_of(build(copy))[0]}.png'
    with Image.open(path) as image:
        image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST).save(path)
    assert build(copy)[0]['gt_sal'].shape == build(copy)[0]['img'].shape[:2]


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(tasks=['depth']), ValueError, "no targets for the task 'depth'"),
        (dict(tasks=['semsge']), KeyError, 'semseg'),
        (dict(split='test'), ValueError, "'train', 'val'"),
    ],
)
def test_wrong_arguments(exported, build, options, error, message):
    with pytest.raises(error, match=message):
        build(exported, **options)


# Nothing is written, and workers


def state(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [folder, *folder.rglob('*')]}


@pytest.mark.parametrize('num_workers', [0, 2])
def test_nothing_is_written_into_the_root_whoever_reads(copy, build, num_workers):
    (copy / layout.part_list_file('train')).unlink()
    (copy / layout.part_list_file('val')).write_text('{"2000_000001": [15]}')
    before = state(copy)
    for options in (dict(), dict(tasks=['human_parts']), dict(split='val', tasks=['human_parts'])):
        dataset = build(copy, **options)
        alone = [sample['gt_human_parts'] for sample in dataset]
        loader = DataLoader(dataset, None, num_workers=num_workers, collate_fn=lambda sample: sample)
        for sample, expected in zip(loader, alone, strict=True):
            np.testing.assert_array_equal(sample['gt_human_parts'], expected)
    assert state(copy) == before


def test_reader_and_samples_are_small(exported, build):
    dataset = build(exported, pipeline=())
    assert len(pickle.dumps(dataset.reader)) < 2000
    assert 'reader' not in build(exported)[0]
    assert torch.utils.data.get_worker_info() is None


SCRIPT = """
import sys
from mtl_plugins.datasets import PascalContextMTDataset
dataset = PascalContextMTDataset(sys.argv[1], tasks=['human_parts'], cache_dir=sys.argv[2],
                               pipeline=[dict(type='mtl_plugins.LoadSampleFiles')])
print('RESULT', [(dataset[i]['sample_id'], int(dataset[i]['gt_human_parts'].sum())) for i in range(len(dataset))])
"""


def test_two_processes_build_the_derived_data_at_once(copy, tmp_path, build):
    shutil.rmtree(copy / 'ImageSets/Parts')
    outputs = run_together([Program('-c', SCRIPT, copy, tmp_path / 'shared') for _ in range(2)], timeout=120)
    results = [next(line for line in output.splitlines() if line.startswith('RESULT')) for output in outputs]
    dataset = build(copy, tasks=['human_parts'])
    sums = [int(dataset[index]['gt_human_parts'].sum()) for index in range(len(dataset))]
    assert results == [f'RESULT {list(zip(ids_of(dataset), sums))}'] * 2
    assert not list((tmp_path / 'shared').rglob('*.tmp'))


def test_exported_scenes_are_those_of_rooms(scenes, render_cache):
    seed = export._seed_with_people('train', SIZE, 0)
    first = next(render_scenes('train', 1, SIZE, seed, render_cache))
    np.testing.assert_array_equal(first['img'], scenes['train'][0]['img'])
