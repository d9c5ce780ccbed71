import os

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.datasets.photo_crops import SPLITS, photos_of_split, region, working_size
from mtl_plugins.datasets.photo_files import (
    UnreadablePhotoError,
    find_bundled_photos,
    find_photos,
    read_photo,
    scan_photos,
)
from mtl_plugins.datasets.photo_targets import OFFERED_TASKS, SELF_TASKS, add_noise, segment_colours
from mtl_plugins.datasets.photos import PhotosDataset
from mtl_plugins.datasets.transforms import CheckTargets, LoadCachedSample
from mtl_plugins.registry import DATASETS

PIPELINE = [dict(type='mtl_plugins.LoadCachedSample'), dict(type='mtl_plugins.CheckTargets')]
CROP = 32


def picture(seed, height=100, width=140):
    """Soft random blobs: something with edges that still compresses."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (height // 10, width // 10, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / 'photos'
    (root / 'sub' / 'deeper').mkdir(parents=True)
    for i, name in enumerate(('a.png', 'b.JPG', 'sub/c.jpeg', 'sub/deeper/d.webp', 'e.bmp')):
        picture(i).save(root / name, lossless=True) if name.endswith('webp') else picture(i).save(root / name)
    (root / 'notes.txt').write_text('no photograph')
    (root / '.hidden.png').write_bytes(b'no photograph either')
    return root


def build(root, tmp_path, **kwargs):
    options = dict(crop_size=CROP, crops_per_image=3, cache_dir=tmp_path / 'cache', pipeline=PIPELINE)
    return PhotosDataset(root=root, **{**options, **kwargs})


# ---------------------------------------------------------------- samples


def test_samples_are_crops_with_targets(folder, tmp_path):
    dataset = build(folder, tmp_path)
    assert len(dataset) == 5 * 3
    assert dataset.metainfo['tasks'] == SELF_TASKS
    for sample in dataset:
        assert sample['img'].shape == (CROP, CROP, 3)
        assert sample['img'].dtype == np.uint8
        assert sample['seg_fields'] == [f'gt_{task}' for task in SELF_TASKS]
        for key in sample['seg_fields']:
            assert sample[key].dtype == np.float32
            assert 0 <= sample[key].min() <= sample[key].max() <= 1
        # the crop is found where img_path says
        path, corner = sample['img_path'].rsplit('@', 1)
        top, left = map(int, corner[1:].split('x'))
        rgb = np.asarray(Image.open(path).convert('RGB'))[top : top + CROP, left : left + CROP]
        np.testing.assert_array_equal(sample['img'], rgb[..., ::-1])
        np.testing.assert_allclose(sample['gt_segment_unsup2d'], segment_colours(rgb), atol=3e-4)


def test_everything_is_found_in_the_order_of_names(folder):
    assert [p.name for p in find_photos(folder)] == ['a.png', 'b.JPG', 'e.bmp', 'sub/c.jpeg', 'sub/deeper/d.webp']


def test_bundled_photographs_give_all_splits(tmp_path):
    names = [p.name for p in find_bundled_photos()]
    assert len(names) == 9
    assert not any('motorcycle' in name for name in names)
    for split in SPLITS:
        dataset = DATASETS.build(
            dict(type='mtl_plugins.PhotosDataset', split=split, crop_size=96, crops_per_image=2,
                 cache_dir=str(tmp_path), pipeline=PIPELINE, tasks=['keypoints2d', 'edge_texture'])
        )  # fmt: skip
        assert len(dataset) == 18
        sample = dataset[4]
        assert sample['seg_fields'] == ['gt_keypoints2d', 'gt_edge_texture']
        assert 0.001 < sample['gt_edge_texture'].mean() < 0.6


def test_same_arguments_same_data_and_other_seed_other_crops(folder, tmp_path):
    first = [s['img'] for s in build(folder, tmp_path / '1')]
    again = [s['img'] for s in build(folder, tmp_path / '2')]
    other = [s['img'] for s in build(folder, tmp_path / '1', seed=1)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other))


def test_one_more_photograph_leaves_the_crops_of_the_others(folder, tmp_path):
    before = {s['img_path']: s['img'] for s in build(folder, tmp_path)}
    picture(9).save(folder / 'aa.png')
    after = {s['img_path']: s['img'] for s in build(folder, tmp_path)}
    assert len(after) == len(before) + 3
    assert all(np.array_equal(after[path], img) for path, img in before.items())


# ---------------------------------------------------------------- splits


@pytest.mark.parametrize('size', [(96, 96), (97, 200), (333, 120), (100, 96)])
def test_regions_cover_the_photograph_and_share_nothing(size):
    orders = set()
    for name in 'abcdefgh':
        counts = np.zeros(size, int)
        starts = {}
        for split in SPLITS:
            area = region(name, size, (32, 32), split)
            counts[area] += 1
            assert all(s.stop - s.start >= 32 for s in area)
            starts[split] = area[0].start + area[1].start
        assert (counts == 1).all()
        orders.add(tuple(sorted(SPLITS, key=starts.get)))
    assert len(orders) > 1


def test_crops_of_different_splits_share_no_pixel(folder, tmp_path):
    for i in range(5):  # every pixel of a photograph has its own colour
        y, x = np.mgrid[:100, :140]
        Image.fromarray(np.stack([y, x, np.full_like(x, i)], -1).astype(np.uint8)).save(folder / f'{i}.png')
    for name in ('a.png', 'b.JPG', 'e.bmp', 'sub/c.jpeg', 'sub/deeper/d.webp'):
        (folder / name).unlink()
    pixels = {
        split: {tuple(p) for s in build(folder, tmp_path, split=split) for p in s['img'].reshape(-1, 3).tolist()}
        for split in SPLITS
    }
    assert not pixels['train'] & pixels['val']
    assert not pixels['train'] & pixels['test']
    assert not pixels['val'] & pixels['test']


def test_photographs_are_dealt_out_whole():
    names = [f'{i}.jpg' for i in range(50)]
    parts = {split: photos_of_split(names, split, seed=0) for split in SPLITS}
    assert sorted(parts['train'] + parts['val'] + parts['test'], key=names.index) == names
    assert [len(parts[split]) for split in SPLITS] == [40, 5, 5]
    assert parts['val'] != photos_of_split(names, 'val', seed=1)


def test_split_by_photo_is_automatic_for_many(folder, tmp_path, monkeypatch):
    def files(split, **kwargs):
        return {s['img_path'].rsplit('@', 1)[0] for s in build(folder, tmp_path, split=split, **kwargs)}

    assert files('train') == files('val') == files('test')
    by_photo = [files(split, split_by='photo') for split in SPLITS]
    assert [len(f) for f in by_photo] == [3, 1, 1]
    assert len(set.union(*by_photo)) == 5
    monkeypatch.setattr('mtl_plugins.datasets.photos.MANY', 5)
    assert [files(split) for split in SPLITS] == by_photo


def test_photographs_are_brought_to_a_useful_size():
    assert working_size((4000, 6000), (128, 128), 512, regions=True) == (512, 768)
    assert working_size((300, 451), (128, 128), 512, regions=True) == (300, 451)
    assert working_size((200, 300), (128, 128), 512, regions=True) == (256, 384)
    assert working_size((200, 300), (128, 128), 512, regions=False) == (200, 300)
    assert working_size((300, 200), (128, 64), 512, regions=True) == (384, 256)
    assert working_size((60, 900), (128, 128), 512, regions=False) is None


# ---------------------------------------------------------------- targets


def test_segment_colours_are_the_means_of_flat_areas():
    rgb = np.zeros((60, 60, 3), np.uint8)
    rgb[:, 30:] = (255, 128, 0)
    colours = segment_colours(rgb, sigma=0)
    np.testing.assert_allclose(colours, rgb / 255, atol=1e-6)
    noisy = add_noise(rgb // 2 + 50, 5, np.random.default_rng(0))
    assert len(np.unique(segment_colours(noisy).reshape(-1, 3), axis=0)) <= 4  # segments stay whole under noise


def test_denoise_adds_noise_to_the_input_only_if_asked_for(folder, tmp_path):
    clean = build(folder, tmp_path)
    noisy = build(folder, tmp_path, tasks=OFFERED_TASKS, noise_std=20.0)
    errors = []
    for a, b, again in zip(clean, noisy, noisy):
        assert a['img_path'] == b['img_path']
        np.testing.assert_allclose(b['gt_denoise'], a['img'][..., ::-1] / 255, atol=3e-4)
        np.testing.assert_array_equal(a['gt_edge_texture'], b['gt_edge_texture'])
        np.testing.assert_array_equal(b['img'], again['img'])
        inside = (a['img'] > 80) & (a['img'] < 175)  # where nothing is clipped
        errors.append((b['img'].astype(float) - a['img'])[inside])
    errors = np.concatenate(errors)
    assert abs(errors.mean()) < 0.5
    assert abs(errors.std() - 20) < 0.5
    # crops overlap, but their noise is independent
    first, second = (noisy[i]['img'].astype(float) - clean[i]['img'] for i in (0, 1))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1


def test_colours_that_the_targets_do_not_follow_are_told(folder, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr('mtl_plugins.datasets.photos.print_log', lambda text, **_: told.append(text))
    colours = dict(type='mtl_plugins.SeededTransforms', transforms=[dict(type='mtl_plugins.FastPhotoMetricDistortion')])
    for tasks, transform, named in (
        (['denoise', 'edge_texture'], colours, 'denoise'),
        (['segment_unsup2d'], colours, 'segment_unsup2d'),
        (['edge_texture'], colours, None),
        (['denoise'], dict(type='mtl_plugins.MultiTaskRandomFlip'), None),
    ):
        build(folder, tmp_path, tasks=tasks, pipeline=[*PIPELINE, transform], lazy_init=True)
        assert len(told) == (named is not None)
        assert not told or f'the targets of {named}, which' in told.pop()


def test_noise_is_gaussian():
    noise = add_noise(np.full((200, 200, 3), 128, np.uint8), 20, np.random.default_rng(0)).astype(float) - 128
    for z, share in ((1, 0.6827), (2, 0.9545)):
        assert abs((np.abs(noise) < z * 20).mean() - share) < 0.02


# ---------------------------------------------------------------- cache


def test_cache_is_reused_and_made_anew_when_a_file_changes(folder, tmp_path):
    first = build(folder, tmp_path)
    marker = first.sample_cache.path(0).stat().st_mtime_ns
    assert build(folder, tmp_path).sample_cache.path(0).stat().st_mtime_ns == marker
    assert (
        build(folder, tmp_path, tasks=['keypoints2d']).sample_cache.root == first.sample_cache.root
    )  # a subset renders nothing
    # the same number of bytes, written later
    picture(77).save(folder / 'e.bmp')
    state = (folder / 'e.bmp').stat()
    os.utime(folder / 'e.bmp', ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
    changed = build(folder, tmp_path)
    assert changed.sample_cache.root != first.sample_cache.root
    assert not np.array_equal(changed[6]['img'], first[6]['img'])
    assert first[6]['img_path'] == changed[6]['img_path']


def test_folders_of_files_alike_in_name_size_and_time_share_no_cache(tmp_path):
    found = []
    for place, seed in (('one', 1), ('two', 2)):
        (tmp_path / place).mkdir()
        path = tmp_path / place / 'frame.bmp'
        picture(seed).save(path)
        os.utime(path, (0, 0))  # as files of an image of a container are
        found.append(build(tmp_path / place, tmp_path, split_by='region'))
    assert not np.array_equal(found[0][0]['img'], found[1][0]['img'])


def test_rendering_in_other_processes_gives_the_same(folder, tmp_path):
    here, there = build(folder, tmp_path / '1'), build(folder, tmp_path / '2', num_workers=2)
    for a, b in zip(here, there):
        assert a['img_path'] == b['img_path']
        for key in ('img', *a['seg_fields']):
            np.testing.assert_array_equal(a[key], b[key])


def test_scan_is_stored_and_a_damaged_one_replaced(folder, tmp_path, monkeypatch):
    photos = find_photos(folder)
    first = scan_photos(photos, tmp_path)
    assert set(first.sizes.values()) == {(100, 140)}
    stored = next(tmp_path.glob('photos-scan-*.json'))
    for damaged in ('{"sizes": ', '3', '{"a.png": 3}'):
        stored.write_text(damaged)
        assert scan_photos(photos, tmp_path) == first
    monkeypatch.setattr('mtl_plugins.datasets.photo_files._look', None)  # nothing is decoded again
    assert scan_photos(photos, tmp_path) == first


# ---------------------------------------------------------------- files of many kinds


def test_odd_kinds_of_images_are_read(tmp_path):
    grey = np.asarray(picture(0, 40, 60).convert('L'))
    sixteen = tmp_path / '16.png'
    Image.fromarray(grey.astype(np.uint16) * 257).save(sixteen)
    np.testing.assert_array_equal(read_photo(sixteen, (40, 60)), np.repeat(grey[..., None], 3, -1))
    alpha = tmp_path / 'alpha.png'
    picture(0, 40, 60).convert('RGBA').save(alpha)
    np.testing.assert_array_equal(read_photo(alpha, (40, 60)), np.asarray(picture(0, 40, 60)))
    palette = tmp_path / 'palette.png'
    picture(0, 40, 60).quantize(16).save(palette, transparency=3)
    assert read_photo(palette, (40, 60)).shape == (40, 60, 3)


def test_exif_orientation_is_applied(tmp_path):
    upright = picture(0, 100, 140)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the stored rows are the columns of the upright picture
    (tmp_path / 'in').mkdir()
    upright.rotate(90, expand=True).save(tmp_path / 'in' / 'turned.png', exif=exif)
    assert scan_photos(find_photos(tmp_path / 'in'), tmp_path).sizes == {'turned.png': (100, 140)}
    np.testing.assert_array_equal(read_photo(tmp_path / 'in' / 'turned.png', (100, 140)), np.asarray(upright))


# ---------------------------------------------------------------- errors


@pytest.fixture
def broken(folder):
    data = (folder / 'b.JPG').read_bytes()
    (folder / 'cut.jpg').write_bytes(data[: len(data) // 2])
    (folder / 'cut.png').write_bytes((folder / 'a.png').read_bytes()[:-4000])
    (folder / 'text.jpg').write_text('this is not a picture')
    (folder / 'empty.png').write_bytes(b'')
    (folder / 'lost.jpg').symlink_to(folder / 'nowhere.jpg')
    picture(3, 20, 30).save(folder / 'tiny.png')
    return {'cut.jpg', 'cut.png', 'text.jpg', 'empty.png', 'lost.jpg', 'tiny.png'}


def test_unusable_files_are_skipped_with_a_reason(folder, broken, tmp_path):
    dataset = build(folder, tmp_path)
    assert set(dataset.skipped) == broken
    assert len(dataset) == 5 * 3
    assert all(sample['img'].any() for sample in dataset)
    for name, reason in (
        ('cut.jpg', 'truncated'),
        ('cut.png', ''),
        ('text.jpg', 'unknown content'),
        ('empty.png', 'an empty file'),
        ('lost.jpg', 'no such file'),
        ('tiny.png', r'20 x 30 pixels (height x width) are too few'),
    ):
        assert reason in dataset.skipped[name]


def test_summary_of_skipped_files(folder, broken, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr('mtl_plugins.datasets.photos.print_log', lambda message, **kwargs: lines.append(message))
    build(folder, tmp_path)
    assert len(lines) == 1
    assert f'6 of 11 photographs in root={str(folder)!r} cannot be used and are skipped:' in lines[0]
    for name in broken:
        assert f'  {name}: ' in lines[0]


def test_unusable_files_stop_if_wanted(folder, broken, tmp_path):
    with pytest.raises(
        UnreadablePhotoError, match=r"(?s)6 of 11 .*cut.jpg: OSError.*on_error='skip' to leave them out"
    ):
        build(folder, tmp_path, on_error='raise')


def test_nothing_left(tmp_path):
    (tmp_path / 'p').mkdir()
    with pytest.raises(ValueError, match=r"no photographs in root='.*/p'; looked .* for files that end in .jpg, .jpeg"):
        build(tmp_path / 'p', tmp_path)
    (tmp_path / 'p' / 'x.png').write_text('no')
    with pytest.raises(ValueError, match='none is left: 1 of 1 photographs'):
        build(tmp_path / 'p', tmp_path)
    with pytest.raises(FileNotFoundError, match=r"root='.*/q' is not a folder"):
        build(tmp_path / 'q', tmp_path)
    picture(0).save(tmp_path / 'p' / 'x.png')
    with pytest.raises(ValueError, match=r"split_by='photo' needs at least 3 photographs, but found 1; use"):
        build(tmp_path / 'p', tmp_path, split_by='photo')


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(split='training'), r"split must be one of \('train', 'val', 'test'\), but got 'training'"),
        (dict(on_error='ignore'), r"on_error must be one of \('skip', 'raise'\), but got 'ignore'"),
        (dict(split_by='image'), r"split_by must be one of \('auto', 'photo', 'region'\)"),
        (dict(metainfo='nope'), "metainfo must be a dict or None, but got 'nope'"),
        (dict(crops_per_image=0), 'crops_per_image must be an integer >= 1, but got 0'),
        (dict(crops_per_image=2.5), 'crops_per_image must be an integer >= 1, but got 2.5'),
        (dict(photo_side=0), 'photo_side must be an integer >= 1 or None, but got 0'),
        (dict(num_workers=-1), 'num_workers must be an integer >= 0, but got -1'),
        (dict(seed='1'), "seed must be an integer >= 0, but got '1'"),
        (dict(noise_std='much'), "noise_std must be a number >= 0, but got 'much'"),
        (dict(crop_size=(3, -1)), 'crop_size must be a positive integer'),
        (dict(tasks=['depth']), "no targets for the task 'depth'. It has: edge_texture, keypoints2d, segment_unsup2d"),
        (dict(tasks=['colorize']), "no targets for the task 'colorize'"),
        (dict(tasks='depth'), 'tasks must be a list of strings'),
        (dict(tasks=[]), 'tasks must name at least one task'),
        (dict(tasks=['keypoints2d', 'keypoints2d']), 'each only once'),
        (dict(tasks=['denoise'], noise_std=0), 'needs noise_std above 0'),
    ],
)  # fmt: skip
def test_bad_arguments(folder, tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(folder, tmp_path, **kwargs)


def test_unknown_task_has_near_matches(folder, tmp_path):
    with pytest.raises(KeyError, match="unknown task 'keypoint2d': did you mean 'keypoints2d'"):
        build(folder, tmp_path, tasks=['keypoint2d'])


def test_missing_bundled_photographs_say_what_to_do(monkeypatch):
    monkeypatch.setattr('mtl_plugins.datasets.photo_files.BUNDLED', {'skimage': ('data', ('gone.png',))})
    with pytest.raises(FileNotFoundError, match=r'1 of them are missing, for example .*gone.png; install both'):
        find_bundled_photos()


def test_pipeline_objects_work_too(folder, tmp_path):
    dataset = build(folder, tmp_path, pipeline=[LoadCachedSample(), CheckTargets()], indices=4)
    assert len(dataset) == 4
    assert 'sample_cache' not in dataset[0]


def test_photographs_may_have_names_that_are_not_in_utf_8(tmp_path):
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (80, 90, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'{number}.png')
        (tmp_path / f'{number}.png').rename(tmp_path / f'a\udce9{number}.png')
    for split_by in ('photo', 'region'):
        assert len(PhotosDataset(tmp_path, crop_size=16, split_by=split_by, cache_dir=tmp_path / 'cache'))
