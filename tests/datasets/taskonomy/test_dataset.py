"""What the exporter wrote is what the loader gives; joins, holes, splits, masks, sizes, and every complaint."""

import logging
import os
import pickle
import shutil
import time

import cv2
import numpy as np
import pytest
from exporters.room_targets import made_up_hole, room_targets
from exporters.scenes import render_scenes
from exporters.taskonomy import export_taskonomy
from mmengine.logging import MMLogger
from PIL import Image
from torch.utils.data import DataLoader

from mtl_plugins.datasets import TaskonomyDataset
from mtl_plugins.datasets.files import UnreadableFileError
from mtl_plugins.datasets.taskonomy import CODINGS, TASKS, TINY, decode, layout
from mtl_plugins.datasets.taskonomy import dataset as dataset_module
from mtl_plugins.datasets.taskonomy import index as index_module
from mtl_plugins.datasets.taskonomy import reader as reader_module
from mtl_plugins.datasets.taskonomy.decoding import dilate, read_codes
from mtl_plugins.datasets.taskonomy.index import Index, key_of
from mtl_plugins.datasets.taskonomy.reader import TaskonomyReader
from mtl_plugins.registry import DATASETS

from . import slow
from .conftest import SIZE

LOAD = [dict(type='mtl_plugins.LoadSampleFiles'), dict(type='mtl_plugins.CheckTargets')]
# Half a code, in the unit of the target, and some float32.
HALF_CODE = dict(
    depth_euclidean=2e-4, depth_zbuffer=2e-4, edge_texture=2e-4, keypoints2d=4e-3, keypoints3d=1e-4, normal=0.01,
    principal_curvature=0.025, reshading=5e-3, segment_unsup2d=5e-3, segment_unsup25d=5e-3,
)  # fmt: skip


@pytest.fixture
def make(exported, cache):
    def make(root=exported, split='train', pipeline=LOAD, **kwargs):
        return TaskonomyDataset(root, split=split, pipeline=pipeline, cache_dir=cache, **kwargs)

    return make


@pytest.fixture
def log():
    """Lines that are logged."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append((record.levelname, record.getMessage()))
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def file(root, domain, building, point, view=None):
    found = sorted((root / domain / 'taskonomy' / building).glob(f'point_{point}_view_{view or "*"}_*'))
    assert len(found) == 1
    return found[0]


def ids(dataset):
    return [dataset.get_data_info(index)['sample_id'] for index in range(len(dataset))]


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_round_trip(make, cache, split):
    dataset = make(split=split)
    count = dict(train=4, val=2, test=2)[split]
    assert len(dataset) == count
    by_image = {sample['img'].tobytes(): sample for sample in (dataset[i] for i in range(count))}
    for index, scene in enumerate(render_scenes(split, count, SIZE, cache_dir=cache)):
        sample = by_image.pop(np.ascontiguousarray(scene['img'][..., ::-1]).tobytes())
        assert sample['seg_fields'] == [f'gt_{task}' for task in TASKS]
        assert sample['img_shape'] == sample['ori_shape'] == SIZE
        targets = room_targets(scene, split, 0, index)
        holes = dilate(made_up_hole(SIZE, 0, index))
        assert 0.01 < holes.mean() < 0.3
        for task, original in targets.items():
            target = sample[f'gt_{task}']
            assert target.dtype == np.float32
            unlabelled = ~target.any(-1) if task == 'normal' else np.isnan(target).reshape(*SIZE, -1).all(-1)
            picture = task in ('edge_texture', 'keypoints2d', 'segment_unsup2d')
            np.testing.assert_array_equal(unlabelled, np.zeros_like(holes) if picture else holes, err_msg=task)
            if task != 'edge_occlusion':  # which is blurred
                error = np.abs(target - original)[~unlabelled]
                assert error.max() <= HALF_CODE[task], (task, error.max())


def test_a_sample_says_what_others_need_to_know(make):
    dataset = make()
    info = dataset.get_data_info(0)
    assert info['sample_id'] == 'allensville/9/0'
    assert info['img_path'].endswith('rgb/taskonomy/allensville/point_9_view_0_domain_rgb.png')
    assert info['files']['segment_unsup25d'].endswith('point_9_view_0_domain_segment25d.png')
    assert info['channels']['reshading'] == 3
    assert info['channels']['segment_unsup2d'] == 1
    assert dataset.metainfo['channels']['principal_curvature'] == 2
    assert dataset.metainfo['value_ranges']['keypoints2d'] == (-1, 1)
    assert DATASETS.get('mtl_plugins.TaskonomyDataset') is TaskonomyDataset
    assert 'reader' not in dataset[0]
    assert 'stored_codes' not in dataset[0]


@pytest.mark.parametrize('tasks', [('normal',), ('segment_unsup25d', 'edge_texture'), ('depth_euclidean',)])
def test_any_tasks_and_the_mask_needs_no_task_of_its_own(make, tasks):
    whole, some = make()[2], make(tasks=tasks)[2]
    assert some['seg_fields'] == [f'gt_{task}' for task in tasks]
    for key in some['seg_fields']:
        np.testing.assert_array_equal(some[key], whole[key])


@pytest.mark.parametrize('order', layout.ORDERS)
def test_all_orders_of_the_folders(make, cache, tmp_path, order):
    root = export_taskonomy(tmp_path / 'taskonomy', size=SIZE, packaging=order, cache_dir=cache)
    for given in (root, tmp_path):
        dataset = make(given, tasks=['normal', 'reshading'])
        assert dataset.index.order == layout.ORDERS[order]
        np.testing.assert_array_equal(dataset[1]['gt_normal'], make(tasks=['normal'])[1]['gt_normal'])


def test_a_disk_with_a_folder_that_nobody_may_read(exported, tmp_path, monkeypatch):
    """Whoever gives a whole disk as the parent folder must not stumble over its lost+found."""
    (tmp_path / 'lost+found').mkdir()
    (tmp_path / 'taskonomy').symlink_to(exported)
    scandir, asked = os.scandir, []

    def guarded(path):
        if 'lost+found' in str(path):
            asked.append(path)
            raise PermissionError(f'Permission denied: {path}')
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', guarded)
    assert layout.find_order(tmp_path) is None
    assert asked
    assert layout.find_root(tmp_path) == tmp_path / 'taskonomy'


def test_files_are_joined_by_point_and_view_and_never_by_position(make, root):
    """With one file gone, the released program would pair all that follow with the wrong picture."""
    expected = {sample['sample_id']: sample for sample in (make(tasks=['normal'])[i] for i in range(4))}
    file(root, 'normal', 'allensville', 9).unlink()
    # A stranger in between, and files that are no images, must not matter either.
    (root / 'normal/taskonomy/allensville/point_10_view_0_domain_normal.txt').write_text('x')
    (root / 'normal/taskonomy/allensville/.DS_Store').write_text('x')
    dataset = make(root, tasks=['normal'], allow_missing=True)
    assert len(dataset) == 4
    for sample in (dataset[index] for index in range(4)):
        if sample['sample_id'] == 'allensville/9/0':
            assert sample['seg_fields'] == []
            continue
        np.testing.assert_array_equal(sample['gt_normal'], expected[sample['sample_id']]['gt_normal'])
        np.testing.assert_array_equal(sample['img'], expected[sample['sample_id']]['img'])


def test_missing_files_stop_before_training_or_are_left_out(make, root, log):
    gone = file(root, 'reshading', 'beechwood', 16)
    gone.unlink()
    with pytest.raises(FileNotFoundError, match=r'missing: 1 file of reshading \(beechwood\):') as error:
        make(root)
    assert str(gone) in str(error.value)
    assert 'allow_missing=True' in str(error.value)
    assert 'verify.py taskonomy' in str(error.value)
    assert len(make(root, tasks=['normal', 'depth_zbuffer'])) == 4, 'nobody asked for reshading'
    dataset = make(root, allow_missing=True)
    assert len(dataset) == 4
    lacking = [sample for sample in (dataset[i] for i in range(4)) if 'gt_reshading' not in sample]
    assert [sample['sample_id'] for sample in lacking] == ['beechwood/16/0']
    assert len(lacking[0]['seg_fields']) == 10
    assert any(level == 'WARNING' and '1 file of reshading (beechwood); images' in text for level, text in log)


def test_without_its_picture_an_image_is_gone(make, root):
    file(root, 'rgb', 'allensville', 16).unlink()
    with pytest.raises(FileNotFoundError, match='1 file of rgb'):
        make(root)
    assert len(make(root, allow_missing=True)) == 3


def test_whole_domains_and_buildings(make, root):
    shutil.rmtree(root / 'rgb/taskonomy/allensville')
    with pytest.raises(FileNotFoundError, match='2 files of rgb'):
        make(root)
    for domain in (*TASKS,):
        shutil.rmtree(root / domain / 'taskonomy/allensville')
    with pytest.raises(FileNotFoundError, match=r'missing: 1 building \(allensville\):'):
        make(root)
    assert len(make(root, allow_missing=True)) == 2
    shutil.rmtree(root / 'normal')
    with pytest.raises(FileNotFoundError, match='2 files of normal'):
        make(root, allow_missing=False, tasks=['normal'], split='val')
    with pytest.raises(ValueError, match=r"none of the 2 images has task 'normal'. Leave it out of tasks"):
        make(root, allow_missing=True)
    assert len(make(root, allow_missing=True, tasks=['reshading'])) == 2


def test_known_holes_are_logged_and_left_out(make, cache, tmp_path, log):
    buildings = dict(train=('allensville', 'woodbine'), val=('wiconisco',))
    root = export_taskonomy(tmp_path / 'taskonomy', size=SIZE, buildings=buildings, cache_dir=cache)
    for domain in layout.DOMAINS:
        shutil.rmtree(root / domain / 'taskonomy/woodbine')
    file(root, 'edge_texture', 'wiconisco', 9).unlink()
    assert ids(make(root)) == ['allensville/9/0', 'allensville/16/2']
    assert ids(make(root, split='val')) == ['wiconisco/16/1']
    told = [text for level, text in log if level == 'INFO']
    assert any('missing: building woodbine (known);' in text for text in told)
    assert any('missing: 1 file of edge_texture in wiconisco (known); such images are left' in text for text in told)
    assert len(make(root, split='val', tasks=['edge_occlusion'])) == 2
    kept = make(root, split='val', allow_missing=True)
    assert [len(kept[index]['seg_fields']) for index in range(2)] == [10, 11]
    file(root, 'edge_occlusion', 'wiconisco', 9).unlink()
    with pytest.raises(FileNotFoundError, match='1 file of edge_occlusion'):
        make(root, split='val')


def test_splits_of_the_file_with_any_line_ends(make, root, exported):
    raw = (exported / layout.SPLIT_FILE).read_bytes()
    assert b'\r' in raw
    assert b'\n' not in raw, 'as the original'
    for end in (b'\r', b'\n', b'\r\n'):
        (root / layout.SPLIT_FILE).write_bytes(raw.replace(b'\r', end))
        assert ids(make(root, split='val')) == ids(make(split='val')) == ['collierville/9/0', 'corozal/9/1']
    (root / layout.SPLIT_FILE).write_bytes(b'id,train,val,test\rbeechwood,0,1,0\r')
    assert ids(make(root, split='val')) == ['beechwood/9/1', 'beechwood/16/0']
    with pytest.raises(ValueError, match='lists no building of this split'):
        make(root)


@pytest.mark.parametrize(
    'content',
    [b'', b'name,train\rx,1\r', b'id,train,val,test\rx,1,1,0\r', b'id,train,val,test\rx,1\r', b'\xff\xfe\x00'],
)
def test_a_split_file_that_cannot_be_read(make, root, content):
    (root / layout.SPLIT_FILE).write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r'tiny\.csv: expected a list with the columns id,train,val,test'):
        make(root)


def test_without_a_split_file_the_built_in_list(make, root, log):
    (root / layout.SPLIT_FILE).unlink()
    with pytest.raises(
        FileNotFoundError, match=r'22 buildings \(benevolence, coffeen, cosmos, forkland, hanson, ...\)'
    ):
        make(root)
    assert ids(make(root, allow_missing=True)) == ids(make())
    assert any('built-in tiny list' in text for _, text in log)
    assert [len(names) for names in TINY.values()] == [25, 5, 5]
    assert len({name for names in TINY.values() for name in names}) == 35


def test_released_splits(make, cache, tmp_path):
    counts = dict(train=4, val=3, test=24)
    buildings = dict(train=('woodbine', 'allensville'), val=('wiconisco', 'corozal'), test=('muleshoe', 'ihlen'))
    root = export_taskonomy(tmp_path / 't', counts, size=(16, 16), buildings=buildings, cache_dir=cache)
    assert ids(make(root, split='released_train')) == ['allensville/9/1', 'allensville/16/0', 'corozal/9/1']
    # 24 // 10 = 2 images, of the building that the list names first, in the order of the names as text.
    assert ids(make(root, split='released_test')) == ['muleshoe/16/2', 'muleshoe/23/1']
    assert len(make(root, split='test')) == 24
    splits = layout.Splits(tuple((name, split) for split, names in TINY.items() for name in names), None)
    assert len(splits.buildings('released_train')) == 28
    assert splits.buildings('released_test') == ('ihlen', 'muleshoe', 'uvalda', 'noxapater', 'mcdade')


def test_masks_can_be_switched_off_as_in_the_released_program(make, exported):
    dataset = make(masks=False)
    sample = dataset[1]
    for task in TASKS:
        codes = read_codes(task, dataset.get_data_info(1)['files'][task])
        np.testing.assert_allclose(sample[f'gt_{task}'], slow.target(task, codes), rtol=3e-5, atol=3e-5)
        assert np.isfinite(sample[f'gt_{task}']).all()
    holes = made_up_hole(SIZE, 0, 2)  # the second image of allensville is the third room
    np.testing.assert_allclose(sample['gt_depth_zbuffer'][holes], 1, atol=1e-6)
    assert sample['as_stored'] == ('normal',)
    lengths = np.linalg.norm(sample['gt_normal'], axis=-1)
    assert lengths[holes].max() < 0.01
    assert np.ptp(lengths[~holes]) > 1e-3, 'quantised vectors as they are'


def test_the_mask_of_valid_pixels_goes_before_that_of_depth(make, cache, tmp_path):
    root = export_taskonomy(tmp_path / 't', size=SIZE, mask_valid=True, cache_dir=cache)
    plain, masked = make()[0], make(root)[0]
    for task in TASKS:
        np.testing.assert_array_equal(plain[f'gt_{task}'], masked[f'gt_{task}'])
    path = make(root).get_data_info(0)['mask_path']
    mask = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    mask[:20, :30] = 0
    cv2.imwrite(path, mask)
    other = make(root)[0]
    assert np.isnan(other['gt_reshading'][:22, :32]).all()
    assert not np.isnan(other['gt_segment_unsup2d']).any()
    cv2.imwrite(path, np.repeat(mask[..., None], 3, axis=-1))
    np.testing.assert_array_equal(make(root)[0]['gt_reshading'], other['gt_reshading'])


def test_without_any_mask_the_own_codes_remain(make, root):
    shutil.rmtree(root / 'depth_zbuffer')
    tasks = ['normal', 'depth_euclidean', 'principal_curvature', 'reshading']
    plain, other = make(tasks=tasks)[0], make(root, tasks=tasks)[0]
    for task in tasks[:3]:
        np.testing.assert_array_equal(plain[f'gt_{task}'], other[f'gt_{task}'])
    assert not np.isnan(other['gt_reshading']).any()


def test_holes_that_no_file_tells_are_logged(make, root, log):
    shutil.rmtree(root / 'depth_zbuffer')
    for tasks, masks, said in ((['reshading'], True, 1), (['edge_texture'], True, 0), (['reshading'], False, 0)):
        make(root, tasks=tasks, masks=masks)
        told = [text for level, text in log if level == 'WARNING']
        assert sum('4 images have neither mask_valid nor depth_zbuffer' in text for text in told) == said
        log.clear()


@pytest.mark.parametrize('masks', [True, False])
def test_codes_are_resized_before_they_are_decoded(make, masks):
    """As the released program does, by Pillow; a pixel that a hole has a share in is not labelled."""
    size = (24, 32)
    dataset = make(masks=masks, size=size)
    sample, info = dataset[1], dataset.get_data_info(1)
    picture = Image.open(info['img_path']).resize(size[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(sample['img'][..., ::-1], np.array(picture))
    assert sample['img_shape'] == sample['ori_shape'] == size
    hole = dilate(made_up_hole(SIZE, 0, 2)) if masks else np.zeros(SIZE, bool)
    share = hole.reshape(24, 2, 32, 2).any((1, 3))
    for task in TASKS:
        codes = np.array(Image.open(info['files'][task]).resize(size[::-1], Image.Resampling.BILINEAR))
        target = sample[f'gt_{task}']
        channels = CODINGS[task].channels
        assert target.shape == (size if channels == 1 else (*size, channels))
        unlabelled = ~target.any(-1) if task == 'normal' else np.isnan(target).reshape(*size, -1).any(-1)
        if masks and task not in ('edge_texture', 'keypoints2d', 'segment_unsup2d'):
            assert unlabelled[share].all()
            assert unlabelled.sum() < 2.5 * share.sum()
        else:
            assert not unlabelled.any()
        np.testing.assert_allclose(
            target, slow.target(task, codes, ~unlabelled if masks else None), rtol=3e-5, atol=3e-5
        )
    assert make(size=24).size == (24, 24)


@pytest.mark.parametrize('masks', [True, False])
def test_codes_of_the_nearest_pixels(make, masks):
    """Every other pixel of the labels of full size (occlusion edges are blurred at the new size instead)."""
    small, full = make(masks=masks, size=(24, 32), resample='nearest')[1], make(masks=masks)[1]
    np.testing.assert_array_equal(small['img'], make(size=(24, 32))[1]['img'])
    for task in TASKS:
        target, expected = small[f'gt_{task}'], full[f'gt_{task}'][1::2, 1::2]
        if task == 'edge_occlusion':
            np.testing.assert_array_equal(np.isnan(target), np.isnan(expected))
        else:
            np.testing.assert_array_equal(target, expected)


def test_the_depth_that_is_mask_and_task_is_read_once(make, monkeypatch):
    read = []
    monkeypatch.setattr(reader_module, 'read_codes', lambda task, path: read.append(path) or read_codes(task, path))
    for tasks in (None, ['reshading', 'normal']):
        dataset = make(tasks=tasks)
        read.clear()
        dataset[0]
        assert len(read) == len(set(read)) == (3 if tasks else 11)


def test_masks_of_another_size_are_named(make, root):
    path = file(root, 'depth_zbuffer', 'allensville', 9)
    cv2.imwrite(str(path), np.full((8, 8), 600, np.uint16))
    with pytest.raises(
        UnreadableFileError, match=r'domain_normal.png is 48 x 64, but the mask of valid pixels .* 8 x 8'
    ):
        make(root, tasks=['normal'])[0]


def test_damaged_files_are_named(make, root):
    path = file(root, 'depth_zbuffer', 'allensville', 9)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UnreadableFileError, match=r'point_9_view_0_domain_depth_zbuffer\.png: .*truncated'):
        make(root)[0]


def test_the_index_is_cached_until_a_folder_changes(make, root, monkeypatch, tmp_path):
    scanned = []
    scan = index_module.scan_folder
    monkeypatch.setattr(index_module, 'scan_folder', lambda path, domain: scanned.append(path) or scan(path, domain))
    for folder in root.glob('*/taskonomy/*'):
        os.utime(folder, (1e9, 1e9))  # a folder that has just changed is not trusted to be complete
    cache_dir = tmp_path / 'cache'

    def count(**kwargs):
        scanned.clear()
        found = len(TaskonomyDataset(root, cache_dir=cache_dir, tasks=['normal'], **kwargs))
        return found, len(scanned)

    assert count() == (4, 2 * 3)  # rgb, normal, and depth for the mask
    assert count() == (4, 0)
    assert count(masks=False) == (4, 0)
    file(root, 'normal', 'beechwood', 9).unlink()
    assert count(allow_missing=True) == (4, 1)
    assert count(allow_missing=True) == (4, 1), 'changed a moment ago: listed again'
    os.utime(root / 'normal/taskonomy/beechwood', (1.1e9, 1.1e9))
    assert count(allow_missing=True) == (4, 1)
    assert count(allow_missing=True) == (4, 0)
    with pytest.raises(FileNotFoundError):
        count()


def test_nothing_is_written_below_the_root(make, exported):
    before = {path: path.stat().st_mtime_ns for path in exported.rglob('*')}
    for split in ('train', 'released_test'):
        dataset = make(split=split)
        dataset[0]
    assert {path: path.stat().st_mtime_ns for path in exported.rglob('*')} == before


def test_a_read_only_root(make, root):
    for path in [root, *root.rglob('*')]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert len(make(root)[0]['seg_fields']) == 11
    finally:
        for path in [root, *root.rglob('*')]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def huge_index(rows):
    """What a dataset of the real size has, without files."""
    rng = np.random.default_rng(0)
    building = np.sort(rng.integers(0, 25, rows)).astype(np.uint16)
    key = np.array([key_of(point, view) for point, view in rng.integers(0, 4000, (rows, 2))])
    domains = layout.DOMAINS
    forms = {domain: np.zeros(rows, np.int16) for domain in domains}
    names = {domain: (f'point_{{:d}}_view_{{:d}}_domain_{domain}.png',) for domain in domains}
    return Index('/data/taskonomy', layout.ORDERS['omnitools'], TINY['train'], building, key, forms, names)


def test_memory_is_small_and_flat(make, monkeypatch):
    rows = 100_000
    index = huge_index(rows)
    monkeypatch.setattr(dataset_module, 'build_index', lambda *args: index)
    dataset = make(pipeline=[], masks=False)
    assert len(dataset) == rows
    dataset.full_init()
    assert len(pickle.dumps(dataset)) < 110 * rows, 'a dict of paths per image would be over 1000'
    info = dataset.get_data_info(rows - 1)
    point, view = (int(part) for part in info['sample_id'].split('/')[1:])
    assert info['files']['normal'] == (
        f'/data/taskonomy/normal/taskonomy/woodbine/point_{point}_view_{view}_domain_normal.png'
    )
    start = time.perf_counter()
    for row in range(2000):
        dataset.get_data_info(row)
    assert (time.perf_counter() - start) / 2000 < 1e-3
    assert not any(isinstance(value, dict) for value in vars(index).values() if len(value) > 50)


def test_other_axes_of_the_normals(make):
    ours, as_stored = make(tasks=['normal'])[0], make(tasks=['normal'], normal_axes=('x', 'y', 'z'))[0]
    np.testing.assert_array_equal(as_stored['gt_normal'] * np.float32([1, -1, -1]), ours['gt_normal'])
    up = ours['gt_normal'][-1, :, 1]
    assert (up > 0.8).mean() > 0.8, 'the floor looks up'
    with pytest.raises(ValueError, match='normal_axes must name what the three channels'):
        make(normal_axes=('x', 'y'))


def test_workers_give_the_same(make):
    dataset = make()
    loader = DataLoader(dataset, num_workers=1, batch_size=None, collate_fn=lambda sample: sample)
    for index, sample in enumerate(loader):
        np.testing.assert_array_equal(sample['gt_normal'], dataset[index]['gt_normal'])
    assert pickle.loads(pickle.dumps(TaskonomyReader(size=(8, 8)))).size == (8, 8)


def test_subsets_keep_working(make):
    dataset = make(indices=[1, 3])
    assert ids(dataset) == ['allensville/16/2', 'beechwood/16/0']


@pytest.mark.parametrize(
    ('kwargs', 'error', 'message'),
    [
        (dict(tasks=['depht_zbuffer']), KeyError, "unknown task 'depht_zbuffer': did you mean 'depth_zbuffer'"),
        (dict(tasks=['normals']), ValueError, "no targets for the task 'normals'; did you mean 'normal'"),
        (dict(tasks='normal'), TypeError, 'tasks must be a list of strings or None'),
        (dict(split='all'), ValueError, r"split must be one of \('train', 'val', 'test', 'released_train'"),
        (dict(size=0), ValueError, 'TaskonomyDataset: size must be a positive integer'),
        (dict(resample='cubic'), ValueError, "TaskonomyDataset.resample must be one of .*'cubic'"),
        (dict(ann_file='x'), ValueError, 'ann_file does not apply'),
    ],
)
def test_wrong_arguments(make, kwargs, error, message):
    with pytest.raises(error, match=message):
        make(**kwargs)


def test_a_folder_that_is_none(make, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r'no taskonomy dataset .* Looked for point_<P>_view_<V>_domain_rgb.png'
    ):
        make(tmp_path)
    with pytest.raises(FileNotFoundError, match='does not exist'):
        make(tmp_path / 'nowhere')


def test_export_refuses_what_it_cannot_do(tmp_path):
    with pytest.raises(ValueError, match=r"packaging must be one of omnitools, .* but got 'zip'"):
        export_taskonomy(tmp_path / 'a', packaging='zip')
    with pytest.raises(ValueError, match='counts must name the splits train, val, test'):
        export_taskonomy(tmp_path / 'a', counts=dict(dev=3))


def test_names_that_carry_leading_zeros_are_found():
    point, view, form = layout.parse_name('point_0012_view_3_domain_fixatedpose.png')
    assert (point, view) == (12, 3)
    assert form.format(point, view) == 'point_0012_view_3_domain_fixatedpose.png'
    assert layout.parse_name('point_1_view_2_domain_rgb.jpg') is None
    assert decode('keypoints3d', np.zeros((2, 2), np.uint16)).shape == (2, 2)
