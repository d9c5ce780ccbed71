"""NYUD-v2: what the exporter wrote is what the loader gives, in every packaging; and every complaint."""

import shutil

import cv2
import numpy as np
import pytest
import scipy.io
from exporters.nyud import CLASSES as ROOMS_CLASSES
from exporters.nyud import export_classes, export_nyud, split_ids
from exporters.scenes import render_scenes
from PIL import Image
from torch.utils.data import DataLoader

from mtl_plugins.datasets import NYUDv2Dataset
from mtl_plugins.datasets.files import UnreadableFileError
from mtl_plugins.datasets.files.provenance import read_provenance
from mtl_plugins.datasets.nyud import layout
from mtl_plugins.datasets.nyud.decoding import decode, read_stored, read_target
from mtl_plugins.datasets.rendering import CLASSES as ROOMS
from mtl_plugins.errors import UserError
from mtl_plugins.registry import DATASETS

SIZE = (48, 64)
COUNTS = {'train': 4, 'val': 2}
PACKAGINGS = tuple(layout.PACKAGINGS)
LOAD = [dict(type='mtl_plugins.LoadSampleFiles'), dict(type='mtl_plugins.CheckTargets')]


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(scope='module')
def originals(tmp_path_factory, cache):
    """One export per packaging, not to be changed."""
    base = tmp_path_factory.mktemp('exports')
    return {name: export_nyud(base / name, COUNTS, SIZE, packaging=name, cache_dir=cache) for name in PACKAGINGS}


@pytest.fixture
def copies(originals, tmp_path):
    """Makes copies that a test may damage."""
    return lambda name: shutil.copytree(originals[name], tmp_path / name)


@pytest.fixture(scope='module')
def scenes(cache):
    return {split: list(render_scenes(split, count, SIZE, cache_dir=cache)) for split, count in COUNTS.items()}


def angles(first, second):
    return np.degrees(np.arccos(np.clip((first * second).sum(-1), -1, 1)))


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('packaging', PACKAGINGS)
def test_round_trip(originals, scenes, packaging, split):
    dataset = NYUDv2Dataset(originals[packaging], split=split, pipeline=LOAD)
    assert dataset.packaging.name == packaging
    assert len(dataset) == COUNTS[split]
    for sample, scene in zip((dataset[index] for index in range(len(dataset))), scenes[split]):
        assert sample['seg_fields'] == ['gt_semseg', 'gt_depth', 'gt_normals', 'gt_edge']
        error = np.abs(sample['img'].astype(int) - scene['img'][..., ::-1])
        assert error.max() == 0 if packaging == 'atrc' else error.mean() < 4
        np.testing.assert_array_equal(sample['gt_edge'], scene['gt_edge'])
        np.testing.assert_array_equal(sample['gt_depth'], scene['gt_depth'])
        np.testing.assert_array_equal(sample['gt_semseg'] == 255, scene['gt_semseg'] == 255)
        for index, name in enumerate(ROOMS):
            there = scene['gt_semseg'] == index
            expected = layout.CLASSES.index({'ornament': 'otherprop'}.get(name, name))
            assert (sample['gt_semseg'][there] == expected).all(), name
        angle = angles(sample['gt_normals'], scene['gt_normals'])
        if packaging == 'mtlp':
            assert angle.max() < 0.1
        elif packaging == 'atrc':
            assert angle.max() < 0.6
        else:
            assert np.mean(angle) < 3, 'JPEG blurs the borders'
        assert sample['gt_normals'].dtype == np.float32


def test_the_files_are_those_of_the_archives(originals):
    atrc = originals['atrc']
    assert (atrc / 'gt_sets' / 'val.txt').read_text().split() == ['0003', '0006']
    assert (atrc / 'gt_sets' / 'train.txt').read_text() == '0001\n0002\n0004\n0005\n'
    image = cv2.imread(str(atrc / 'images' / '0001.png'), cv2.IMREAD_UNCHANGED)
    assert (image.shape, image.dtype) == ((*SIZE, 3), np.uint8)
    labels = cv2.imread(str(atrc / 'segmentation' / '0001.png'), cv2.IMREAD_UNCHANGED)
    assert (labels.shape, labels.dtype) == (SIZE, np.uint8)
    assert labels.max() <= 40
    assert set(np.unique(cv2.imread(str(atrc / 'edge' / '0001.png'), cv2.IMREAD_UNCHANGED))) == {0, 255}
    assert np.load(atrc / 'depth' / '0001.npy').dtype == np.float32
    assert cv2.imread(str(atrc / 'normals' / '0001.png'), cv2.IMREAD_UNCHANGED).shape == (*SIZE, 3)

    mtlp = originals['mtlp']
    assert (mtlp / 'images' / '0001.jpg').read_bytes()[:2] == b'\xff\xd8'
    edge = np.load(mtlp / 'edge' / '0001.npy')
    assert edge.dtype == np.float32
    assert set(np.unique(edge)) == {0, 1}
    assert np.load(mtlp / 'normals' / '0001.npy').shape == (*SIZE, 3)

    astmt = originals['astmt']
    assert scipy.io.loadmat(astmt / 'segmentation' / '0001.mat')['segmentation'].shape == SIZE
    assert scipy.io.loadmat(astmt / 'depth' / '0001.mat')['depth'].shape == SIZE
    assert (astmt / 'normals' / '0001.jpg').read_bytes()[:2] == b'\xff\xd8'
    assert (astmt / 'edge' / '0001.png').read_bytes()[1:4] == b'PNG'
    for name, root in originals.items():
        marker = read_provenance(root)
        assert (marker['dataset'], marker['packaging'], marker['counts'], marker['size']) == (
            'nyud', name, COUNTS, list(SIZE),
        )  # fmt: skip


def test_decoding_by_the_letter():
    """The rules of the released loaders, spelt out on single values."""
    stored = np.array([[0, 1, 40]], np.uint8)
    np.testing.assert_array_equal(decode('semseg', stored), [[255, 0, 39]])
    np.testing.assert_array_equal(decode('semseg', stored.astype(np.float64)), [[255, 0, 39]])
    np.testing.assert_array_equal(decode('edge', np.array([[0, 255]], np.uint8)), [[0, 1]])
    np.testing.assert_array_equal(decode('edge', np.array([[0, 1]], np.uint8)), [[0, 1]])
    np.testing.assert_array_equal(decode('edge', np.array([[1, 127, 128]], np.uint8)), [[0, 0, 1]])
    np.testing.assert_array_equal(decode('edge', np.array([[0.0, 1.0]])), [[0, 1]])
    np.testing.assert_array_equal(decode('edge', np.array([[False, True]])), [[0, 1]])
    depth = decode('depth', np.array([[0.0, 0.7, 9.99]]))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, [[0, 0.7, 9.99]], rtol=1e-6)
    normals = decode('normals', np.array([[[255, 128, 127], [127, 128, 0], [128, 127, 128]]], np.uint8))
    np.testing.assert_allclose(normals, [[[1, 0, 0], [0, 0, -1], [0, 0, 0]]], atol=0.005)
    np.testing.assert_allclose(decode('normals', np.array([[[0, 2.0, 0], [0, 0, 0]]])), [[[0, 1, 0], [0, 0, 0]]])


@pytest.mark.parametrize('ending', ['.npy', '.png'])
def test_edges_of_0_and_1_have_no_code_for_what_is_not_labelled(tmp_path, ending):
    path = tmp_path / f'edge{ending}'
    for values, right in (([0, 1, 255], False), ([1, 255, 255], False), ([0, 1, 1], True), ([0, 255, 255], True)):
        stored = np.array([values], np.uint8)
        np.save(path, stored) if ending == '.npy' else Image.fromarray(stored).save(path)
        if right:
            np.testing.assert_array_equal(read_target('edge', path), stored > 0)
            continue
        with pytest.raises(UserError, match=r'expected edges of 0 and 255 .or 0 and 1., but found 0, 1 and 255'):
            read_target('edge', path)


@pytest.mark.parametrize('tasks', [['depth'], ['edge', 'semseg'], ['normals'], list(layout.TASKS)])
@pytest.mark.parametrize('packaging', PACKAGINGS)
def test_any_subset_of_tasks_touches_no_other_files(copies, tasks, packaging):
    root = copies(packaging)
    for task in set(layout.TASKS) - set(tasks):
        for path in (root / layout.FOLDERS[task]).iterdir():
            path.write_bytes(b'')  # would not be readable
    dataset = NYUDv2Dataset(root, tasks=tasks, pipeline=LOAD)
    assert dataset[0]['seg_fields'] == [f'gt_{task}' for task in tasks]
    assert set(dataset.metainfo['classes']) == {'semseg'} & set(tasks)


@pytest.mark.parametrize('packaging', PACKAGINGS)
def test_folders_of_other_tasks_need_not_be_there(copies, packaging):
    root = copies(packaging)
    for task in ('semseg', 'depth', 'edge'):
        shutil.rmtree(root / layout.FOLDERS[task])
    assert NYUDv2Dataset(root, tasks=['normals']).packaging.name == packaging


@pytest.mark.parametrize('packaging', PACKAGINGS)
def test_detection_ignores_what_systems_leave_behind(copies, packaging):
    root = copies(packaging)
    for folder in ('images', 'depth', 'edge'):
        (root / folder / 'Thumbs.db').write_text('')
        (root / folder / '.DS_Store').write_text('')
    (root / 'images' / 'stray.png').write_text('')
    (root / 'images' / 'stray.jpg').write_text('')
    assert NYUDv2Dataset(root).packaging.name == packaging


def test_unknown_packaging_says_what_was_found(copies):
    root = copies('atrc')
    for path in (root / 'images').iterdir():
        path.rename(path.with_suffix('.jpg'))
    with pytest.raises(ValueError, match='fit none of the packagings') as caught:
        NYUDv2Dataset(root)
    for part in ('images: 6 .jpg', 'depth: 6 .npy', "'mtlp' (NYUD_MT.tgz", 'packaging=', str(root)):
        assert part in str(caught.value)
    # Forced, the files of that packaging are asked for.
    with pytest.raises(FileNotFoundError, match=r'images/0001\.png'):
        NYUDv2Dataset(root, packaging='atrc')


def test_ambiguous_packaging_can_be_forced(copies):
    root = copies('mtlp')
    for path in copies('astmt').rglob('*.*'):
        if path.suffix in ('.mat', '.jpg', '.png'):
            shutil.copy(path, root / path.parent.name / path.name)
    with pytest.raises(ValueError, match=r"fit several packagings.*packaging='mtlp' or 'astmt'"):
        NYUDv2Dataset(root)
    for name in ('mtlp', 'astmt'):
        dataset = NYUDv2Dataset(root, packaging=name, pipeline=LOAD)
        assert dataset.packaging.name == name
        assert dataset.get_data_info(0)['files']['depth'].endswith(layout.PACKAGINGS[name].targets['depth'])
        dataset[0]
    with pytest.raises(ValueError, match="must be one of 'atrc', 'mtlp', 'astmt'"):
        NYUDv2Dataset(root, packaging='xyz')


@pytest.mark.parametrize('name', ['NYUDv2', 'NYUD_MT'])
def test_the_parent_folder_will_do(originals, tmp_path, name):
    (tmp_path / name).symlink_to(originals['atrc'])
    assert len(NYUDv2Dataset(tmp_path)) == 4


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no nyud dataset at data_root=.*NYUDv2.*verify\.py nyud'):
        NYUDv2Dataset(tmp_path)
    for folder in ('image', 'label', 'depth', 'normal'):
        (tmp_path / 'train' / folder).mkdir(parents=True)
        np.save(tmp_path / 'train' / folder / '0.npy', np.zeros((288, 384)))
    with pytest.raises(FileNotFoundError, match=r'13 classes.*another dataset'):
        NYUDv2Dataset(tmp_path)


def test_missing_split_file(copies):
    root = copies('atrc')
    (root / 'gt_sets' / 'val.txt').unlink()
    with pytest.raises(FileNotFoundError, match=r'the split file .*val\.txt is missing'):
        NYUDv2Dataset(root, split='val')
    assert len(NYUDv2Dataset(root)) == 4


@pytest.mark.parametrize('end', ['\r', '\r\n', '\n\n'])
def test_split_files_of_other_systems(copies, end):
    root = copies('atrc')
    path = root / 'gt_sets' / 'train.txt'
    path.write_bytes(path.read_text().replace('\n', end).encode())
    assert [NYUDv2Dataset(root).get_data_info(index)['sample_id'] for index in range(4)] == [
        '0001', '0002', '0004', '0005',
    ]  # fmt: skip


def test_missing_labels(copies):
    root = copies('mtlp')
    (root / 'depth' / '0002.npy').unlink()
    with pytest.raises(FileNotFoundError, match=r'1 of the files(.|\n)*depth/0002\.npy'):
        NYUDv2Dataset(root)
    dataset = NYUDv2Dataset(root, allow_missing=True, pipeline=LOAD)
    assert 'gt_depth' not in dataset[1]
    assert 'gt_depth' in dataset[0]


def test_labels_of_another_size_follow_the_image(copies):
    root = copies('atrc')
    labels = read_stored('semseg', root / 'segmentation' / '0001.png')
    cv2.imwrite(str(root / 'segmentation' / '0001.png'), labels.repeat(2, 0).repeat(2, 1))
    np.save(root / 'depth' / '0001.npy', np.load(root / 'depth' / '0001.npy').repeat(3, 0).repeat(3, 1))
    normals = cv2.imread(str(root / 'normals' / '0001.png'))
    cv2.imwrite(str(root / 'normals' / '0001.png'), cv2.resize(normals, (32, 24), interpolation=cv2.INTER_AREA))
    sample = NYUDv2Dataset(root, pipeline=LOAD)[0]
    np.testing.assert_array_equal(sample['gt_semseg'], labels - np.uint8(1))
    assert sample['gt_depth'].shape == SIZE
    assert sample['gt_normals'].shape == (*SIZE, 3)


def test_arrays_with_a_channel_axis(copies):
    root = copies('mtlp')
    for folder in ('depth', 'edge'):
        np.save(root / folder / '0001.npy', np.load(root / folder / '0001.npy')[..., None].astype(np.float64))
    sample = NYUDv2Dataset(root, pipeline=LOAD)[0]
    assert sample['gt_depth'].shape == sample['gt_edge'].shape == SIZE


@pytest.mark.parametrize(
    ('task', 'file', 'content', 'found'),
    [
        ('depth', 'a.npy', np.zeros((4, 5, 3)), r'shape \(4, 5, 3\)'),
        ('depth', 'a.npy', np.zeros(7), r'shape \(7,\)'),
        ('depth', 'a.npy', np.zeros((0, 5)), r'shape \(0, 5\)'),
        ('normals', 'a.npy', np.zeros((4, 5)), r'shape \(4, 5\)'),
        ('normals', 'a.npy', np.zeros((3, 4, 5)), r'shape \(3, 4, 5\)'),
        ('semseg', 'a.mat', np.full((4, 5), 1.5), 'values 1.5..1.5'),
        ('semseg', 'a.mat', np.full((4, 5), -1), 'values -1..-1'),
        ('semseg', 'a.mat', np.full((4, 5), 300), 'values 300..300'),
        ('semseg', 'a.mat', np.full((4, 5), np.nan), 'values nan'),
        ('semseg', 'a.mat', np.array([['a']]), 'expected an array of numbers'),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, task, file, content, found):
    path = tmp_path / file
    if file.endswith('.npy'):
        np.save(path, content)
    else:
        scipy.io.savemat(path, {'segmentation': content})
    with pytest.raises(UnreadableFileError, match=found) as caught:
        read_target(task, path)
    assert str(path) in str(caught.value)


def test_class_ids_outside_of_the_table_are_noticed(copies):
    root = copies('atrc')
    labels = read_stored('semseg', root / 'segmentation' / '0001.png').copy()
    labels[0, 0] = 41
    cv2.imwrite(str(root / 'segmentation' / '0001.png'), labels)
    with pytest.raises(ValueError, match=r"0001\.png', task 'semseg'.*class ids 0\.\.39"):
        NYUDv2Dataset(root, pipeline=LOAD)[0]


@pytest.mark.parametrize('num_workers', [0, 2])
def test_workers_give_the_same_and_nothing_is_written(originals, num_workers):
    root = originals['atrc']
    before = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    dataset = NYUDv2Dataset(root, pipeline=[*LOAD, dict(type='mtl_plugins.PackMultiTaskInputs')])
    packed = list(DataLoader(dataset, batch_size=None, num_workers=num_workers))
    assert [sample['data_samples'].img_path[-8:] for sample in packed] == [
        '0001.png', '0002.png', '0004.png', '0005.png',
    ]  # fmt: skip
    assert packed[0]['data_samples'].gt_normals.data.shape == (3, *SIZE)
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == before


def test_normals_in_other_axes(originals):
    ours = NYUDv2Dataset(originals['atrc'], tasks=['normals'], pipeline=LOAD)[0]['gt_normals']
    other = NYUDv2Dataset(originals['atrc'], tasks=['normals'], normal_axes=('z', 'x', '-y'), pipeline=LOAD)
    np.testing.assert_array_equal(other[0]['gt_normals'], np.stack([ours[..., 1], -ours[..., 2], ours[..., 0]], -1))
    with pytest.raises(ValueError, match='normal_axes must name'):
        NYUDv2Dataset(originals['atrc'], normal_axes=('x', 'y', 'y'))


def test_config_and_metainfo(originals):
    dataset = DATASETS.build(dict(type='mtl_plugins.NYUDv2Dataset', data_root=str(originals['atrc']), split='val'))
    assert dataset.metainfo['tasks'] == layout.TASKS
    assert len(dataset.metainfo['classes']['semseg']) == len(dataset.metainfo['palettes']['semseg']) == 40
    assert dataset.metainfo['classes']['semseg'][23] == 'refridgerator'
    assert dataset.get_data_info(0)['num_classes'] == {'semseg': 40}
    with pytest.raises(ValueError, match="no targets for the task 'sal'"):
        NYUDv2Dataset(originals['atrc'], tasks=['sal'])


def test_class_table():
    assert len(layout.CLASSES) == len(set(layout.CLASSES)) == 40
    assert set(ROOMS_CLASSES) == set(ROOMS)
    assert export_classes(np.array([[0, 255, ROOMS.index('lamp')]], np.uint8)).tolist() == [[0, 255, 34]]


def test_export_again_continues_and_other_parameters_are_refused(originals, cache, tmp_path):
    root = export_nyud(tmp_path / 'a', COUNTS, SIZE, cache_dir=cache)
    files = {path.relative_to(root): path.read_bytes() for path in root.rglob('*') if path.is_file()}
    (root / 'depth' / '0001.npy').unlink()
    export_nyud(root, COUNTS, SIZE, cache_dir=cache)
    assert {path.relative_to(root): path.read_bytes() for path in root.rglob('*') if path.is_file()} == files
    for other in (dict(packaging='mtlp'), dict(seed=1), dict(size=(32, 32)), dict(counts=dict(train=1, val=1))):
        with pytest.raises(FileExistsError, match='not empty'):
            export_nyud(root, **{**dict(counts=COUNTS, size=SIZE, cache_dir=cache), **other})
    with pytest.raises(ValueError, match='packaging must be one of'):
        export_nyud(tmp_path / 'b', packaging='zip')
    with pytest.raises(ValueError, match='must name the splits train, val'):
        export_nyud(tmp_path / 'b', counts={'test': 3})


@pytest.mark.parametrize(('train', 'val'), [(795, 654), (4, 2), (1, 1), (1, 9)])
def test_ids_of_stand_ins(train, val):
    ids = split_ids(dict(train=train, val=val))
    assert (len(ids['train']), len(ids['val'])) == (train, val)
    assert sorted(ids['train'] + ids['val']) == [f'{number:04d}' for number in range(1, train + val + 1)]
