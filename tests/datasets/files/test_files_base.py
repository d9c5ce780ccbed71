"""The base class: tasks, splits, missing files, what reaches the pipeline, and hands off the dataset's folder."""

import logging
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader

from mtl_plugins.datasets.files import (
    FilesDataset,
    LoadSampleFiles,
    SampleReader,
    find_folder,
    missing_files,
    read_indices,
    read_lines,
)
from mtl_plugins.datasets.files.loading import resize_target

PIPELINE = [dict(type='mtl_plugins.LoadSampleFiles')]


class ToyReader(SampleReader):
    def __init__(self, offset):
        self.offset = offset

    def read_target(self, task, results):
        if task in ('semseg', 'edge'):
            return read_indices(results['files'][task]) + np.uint8(self.offset)
        first, second = results['files'][task]
        return read_indices(first).astype(np.float32) + read_indices(second)


class ToyDataset(FilesDataset):
    NAME = 'toy'
    TASKS = ('semseg', 'depth', 'edge')
    CLASSES = {'semseg': ('a', 'b', 'c')}
    PALETTES = {'semseg': [[0, 0, 0], [1, 1, 1], [2, 2, 2]]}
    CHANNELS = {'depth': 1}

    def find_root(self, data_root):
        return find_folder(data_root, ('Toy',), lambda f: (f / 'lists').is_dir(), 'the folder lists', 'toy')

    def list_samples(self):
        samples = []
        for name in read_lines(self.root / 'lists' / f'{self.split}.txt'):
            files = {task: f'{self.root}/{task}/{name}.png' for task in ('edge', 'semseg')}
            files['depth'] = tuple(f'{self.root}/depth/{name}_{half}.png' for half in 'ab')
            if name == 'n0':
                del files['edge']  # one that the dataset does not have
            samples.append(dict(img_path=f'{self.root}/images/{name}.png', files=files, extra=len(name)))
        return samples

    def make_reader(self):
        return ToyReader(offset=1)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode('.png', array)[1].tobytes())


@pytest.fixture
def root(tmp_path):
    root = tmp_path / 'Toy'
    (root / 'lists').mkdir(parents=True)
    (root / 'lists' / 'train.txt').write_bytes(b'n0\rn1\rn2\r')  # line ends of old Macs
    (root / 'lists' / 'val.txt').write_text('\n')
    for number in range(3):
        grey = np.full((4, 6), number, np.uint8)
        write(root / 'images' / f'n{number}.png', np.stack([grey, grey + 10, grey + 20], -1))
        write(root / 'semseg' / f'n{number}.png', grey)
        write(root / 'edge' / f'n{number}.png', grey)
        write(root / 'depth' / f'n{number}_a.png', grey)
        write(root / 'depth' / f'n{number}_b.png', grey)
    return root


@pytest.fixture
def logged(monkeypatch):
    """Messages of mmengine's logger."""
    records = []
    logger = MMLogger.get_instance('files-test')
    monkeypatch.setattr(MMLogger, 'get_current_instance', classmethod(lambda cls: logger))
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def test_what_reaches_the_pipeline(root):
    dataset = ToyDataset(root, tasks=('depth', 'semseg'), pipeline=PIPELINE)
    assert isinstance(dataset, BaseDataset)
    sample = dataset[2]
    assert sample['seg_fields'] == ['gt_depth', 'gt_semseg']
    assert sample['sample_id'] == 'n2'
    assert sample['img_shape'] == sample['ori_shape'] == (4, 6)
    assert sample['img_path'] == f'{root}/images/n2.png'
    assert sample['extra'] == 2
    assert sample['num_classes'] == {'semseg': 3}
    assert sample['channels'] == {'depth': 1}
    assert sample['img'][0, 0].tolist() == [2, 12, 22]
    assert (sample['gt_semseg'] == 3).all()
    assert (sample['gt_depth'] == 4).all()
    assert 'reader' not in sample
    assert 'gt_edge' not in sample


def test_a_task_that_a_sample_does_not_have_is_left_out(root):
    dataset = ToyDataset(root, tasks=('semseg', 'edge'))
    assert list(dataset.get_data_info(0)['files']) == ['semseg']
    assert list(dataset.get_data_info(1)['files']) == ['semseg', 'edge']


def test_metainfo_and_default_tasks(root):
    assert ToyDataset(root).metainfo == dict(
        tasks=ToyDataset.TASKS, classes=ToyDataset.CLASSES, palettes=ToyDataset.PALETTES, channels=ToyDataset.CHANNELS
    )
    assert ToyDataset(root, tasks=['depth']).metainfo['classes'] == {}
    assert ToyDataset(root, metainfo=dict(more=1)).metainfo['more'] == 1


def test_the_parent_folder_will_do(root):
    assert ToyDataset(root.parent).root == root
    assert ToyDataset(str(root)).root == root


def test_unknown_and_unoffered_tasks(root):
    with pytest.raises(KeyError, match="unknown task 'semsegg': did you mean 'semseg'"):
        ToyDataset(root, tasks=['semsegg'])
    with pytest.raises(ValueError, match=r"no targets for the task 'normals'.*It has: semseg, depth, edge"):
        ToyDataset(root, tasks=['normals'])
    with pytest.raises(ValueError, match='each only once'):
        ToyDataset(root, tasks=['depth', 'depth'])
    with pytest.raises(ValueError, match='at least one task'):
        ToyDataset(root, tasks=[])
    with pytest.raises(TypeError, match=r'ToyDataset\.tasks must be a list of strings or None'):
        ToyDataset(root, tasks='depth')


def test_splits(root):
    with pytest.raises(ValueError, match=r"split must be one of \('train', 'val'\), but got 'test'"):
        ToyDataset(root, split='test')
    with pytest.raises(ValueError, match=r'the split is empty.*verify.py toy'):
        ToyDataset(root, split='val')


def test_arguments_of_other_datasets_are_refused(root):
    with pytest.raises(ValueError, match='ann_file does not apply'):
        ToyDataset(root, ann_file='train.txt')
    with pytest.raises(ValueError, match='data_prefix does not apply'):
        ToyDataset(root, data_prefix=dict(img='x'))
    assert len(ToyDataset(root, ann_file='', indices=2, serialize_data=False)) == 2


def test_wrong_folder_says_what_to_try(tmp_path):
    (tmp_path / 'other').mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        ToyDataset(tmp_path)
    message = str(caught.value)
    for part in ('holds other', str(tmp_path / 'Toy'), 'the folder lists', 'verify.py toy', 'export_rooms.py toy'):
        assert part in message
    with pytest.raises(FileNotFoundError, match='does not exist'):
        ToyDataset(tmp_path / 'nowhere')
    ToyDataset(tmp_path / 'nowhere', lazy_init=True)  # a config can be looked at without its data


def test_missing_files_stop_before_the_training(root):
    for number in range(3):
        (root / 'semseg' / f'n{number}.png').unlink()
    (root / 'depth' / 'n1_b.png').unlink()
    with pytest.raises(FileNotFoundError) as caught:
        ToyDataset(root)
    message = str(caught.value)
    assert '4 of the files it needs' in message
    assert f'{root}/semseg/n0.png' in message
    assert 'allow_missing=True' in message
    assert 'verify.py toy' in message
    assert len(ToyDataset(root, tasks=['edge'])) == 3, 'files of tasks nobody asked for do not matter'


def test_only_the_first_few_missing_files_are_listed(root):
    names = [f'm{number}' for number in range(20)]
    (root / 'lists' / 'train.txt').write_text('\n'.join(names))
    with pytest.raises(FileNotFoundError, match=r'60 of the files(.|\n)*and 55 more'):
        ToyDataset(root, tasks=['depth'])


def test_allow_missing_drops_the_task_for_that_sample_and_says_so_once(root, logged):
    (root / 'semseg' / 'n1.png').unlink()
    (root / 'depth' / 'n2_b.png').unlink()
    dataset = ToyDataset(root, tasks=('semseg', 'depth'), allow_missing=True, pipeline=PIPELINE)
    assert [dataset[index]['seg_fields'] for index in range(3)] == [
        ['gt_semseg', 'gt_depth'],
        ['gt_depth'],
        ['gt_semseg'],
    ]
    messages = [text for text in logged if 'left out' in text]
    assert len(messages) == 1
    assert 'of 3 samples: depth 1, semseg 1' in messages[0]


def test_allow_missing_leaves_out_samples_without_image(root, logged):
    (root / 'images' / 'n0.png').unlink()
    dataset = ToyDataset(root, tasks=['semseg'], allow_missing=True, pipeline=PIPELINE)
    assert [dataset[index]['sample_id'] for index in range(2)] == ['n1', 'n2']
    assert 'image 1' in ' '.join(logged)
    for number in (1, 2):
        (root / 'images' / f'n{number}.png').unlink()
    with pytest.raises(ValueError, match='not a single image is left'):
        ToyDataset(root, allow_missing=True)


def test_a_task_that_no_sample_has_is_an_error(root):
    for number in range(3):
        (root / 'edge' / f'n{number}.png').unlink()
    with pytest.raises(ValueError, match=r"none of the 3 samples has task 'edge'"):
        ToyDataset(root, allow_missing=True)


def test_each_folder_is_listed_once_and_no_file_is_asked_for(root, monkeypatch):
    import os

    listed, asked = [], []
    scandir, stat = os.scandir, os.stat
    monkeypatch.setattr(os, 'scandir', lambda path: listed.append(str(path)) or scandir(path))
    monkeypatch.setattr(os, 'stat', lambda path, *a, **k: asked.append(str(path)) or stat(path, *a, **k))
    # Which reads a sample, to see whether there are labels.
    monkeypatch.setattr(ToyDataset, '_warn_of_unlabelled_tasks', lambda self: None)
    ToyDataset(root)
    assert sorted(listed) == sorted({f'{root}/{name}' for name in ('images', 'semseg', 'depth', 'edge')})
    assert not [path for path in asked if path.endswith('.png')]


def test_missing_files_of_missing_folders(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / 'x').write_text('')
    paths = [f'{tmp_path}/a/x', f'{tmp_path}/a/y', f'{tmp_path}/b/x', f'{tmp_path}/a/x/z']
    assert missing_files(paths) == set(paths[1:])


@pytest.mark.parametrize('text', ['a\nb\n', 'a\r\nb', 'a\rb\r', '\ufeffa\n\n  b \n'])
def test_lines_of_any_system(tmp_path, text):
    (tmp_path / 'list.txt').write_bytes(text.encode())
    assert read_lines(tmp_path / 'list.txt') == ['a', 'b']


def snapshot(root):
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(root.rglob('*'))
    }


@pytest.mark.parametrize('num_workers', [0, 2])
def test_loading_from_a_read_only_folder_leaves_it_alone(root, num_workers):
    folders = [root, *(path for path in root.rglob('*') if path.is_dir())]
    before = snapshot(root)
    for folder in folders:
        folder.chmod(0o555)
    try:
        dataset = ToyDataset(root, pipeline=PIPELINE)
        loader = DataLoader(dataset, batch_size=None, num_workers=num_workers)
        assert [sample['sample_id'] for sample in loader] == ['n0', 'n1', 'n2']
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert snapshot(root) == before


def test_the_list_is_serialized_and_the_dataset_travels_to_workers(root):
    dataset = ToyDataset(root, pipeline=PIPELINE)
    assert dataset.data_list == []
    assert dataset.data_bytes.nbytes > 0
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[1]['gt_depth'], dataset[1]['gt_depth'])


def test_samples_are_independent_copies(root):
    dataset = ToyDataset(root, pipeline=PIPELINE, serialize_data=False)
    dataset[0]['files'].clear()
    dataset[0]['img'][:] = 99
    assert list(dataset[0]['files']) == ['semseg', 'depth']
    assert dataset[0]['img'].max() < 99


def test_the_loading_transform_names_the_right_one_for_other_datasets():
    with pytest.raises(KeyError, match='LoadCachedSample'):
        LoadSampleFiles().transform(dict(img_path='x.png'))


def test_classes_and_channels_that_are_checked_are_those_of_the_meta_information(root):
    classes = dict(semseg=('a', 'b'))
    dataset = ToyDataset(root, metainfo=dict(classes=classes, channels=dict(depth=2)))
    assert dataset.get_data_info(0)['num_classes'] == dict(semseg=2)
    assert dataset.get_data_info(0)['channels'] == dict(depth=2)


@pytest.mark.parametrize('image', [np.zeros((4, 4)), np.zeros((4, 4, 3), np.float32), np.zeros((3, 4, 4), np.uint8)])
def test_an_image_of_another_range_or_shape_is_refused(image):
    class Reader(SampleReader):
        def read_image(self, results):
            return image

    with pytest.raises(ValueError, match=r'Reader.read_image must return BGR of the shape \(H, W, 3\)'):
        LoadSampleFiles().transform(dict(img_path='x.png', reader=Reader(), files={}))


@pytest.mark.parametrize('kind', ['classes', 'binary', 'depth', 'regression'])
def test_labels_are_resized_by_nearest_neighbour(kind):
    target = np.random.default_rng(0).integers(0, 9, (4, 6)).astype(np.float32)
    target[0, 0] = np.nan
    larger = resize_target(target, (8, 12), kind)
    np.testing.assert_array_equal(larger, target.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(resize_target(larger, (4, 6), kind), target)


def test_normals_are_resized_smoothly_and_stay_unit_vectors():
    angle = np.linspace(0, 1, 40, dtype=np.float32) * np.ones((30, 1), np.float32)
    normals = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], -1)
    normals[:10, :10] = 0
    result = resize_target(normals, (60, 80), 'normals')
    assert result.shape == (60, 80, 3)
    assert result.dtype == np.float32
    length = np.linalg.norm(result, axis=-1)
    assert (length[:20, :20] == 0).all()
    np.testing.assert_allclose(length[22:], 1, atol=1e-5)
    wanted = np.interp((np.arange(80) + 0.5) / 2 - 0.5, np.arange(40), np.linspace(0, 1, 40))
    np.testing.assert_allclose(np.arctan2(result[40, :, 0], result[40, :, 2]), wanted, atol=0.01)


def test_targets_of_another_size_follow_the_image(root):
    write(root / 'semseg' / 'n1.png', np.full((8, 12), 1, np.uint8))
    sample = ToyDataset(root, tasks=['semseg'], pipeline=PIPELINE)[1]
    assert sample['gt_semseg'].shape == sample['img_shape'] == (4, 6)


def test_a_file_that_breaks_during_training_is_named(root):
    dataset = ToyDataset(root, tasks=['semseg'], pipeline=PIPELINE)
    path = Path(root / 'semseg' / 'n1.png')
    path.write_bytes(path.read_bytes()[:-20])
    loader = DataLoader(dataset, batch_size=None, num_workers=1)
    with pytest.raises(ValueError, match=r'semseg/n1\.png(.|\n)*verify\.py'):
        list(loader)


def test_a_palette_that_is_too_short_is_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(ValueError, match="task 'semseg' has 3 classes, but its palette has only 1 colours"):
        ToyDataset(tmp_path, metainfo=dict(palettes=dict(semseg=[[0, 0, 0]])))
