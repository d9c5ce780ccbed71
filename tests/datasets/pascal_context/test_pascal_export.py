import json

import numpy as np
import pytest
import scipy.io
from exporters import export_pascal_context
from exporters.mannequins import scene_objects
from PIL import Image

from mtl_plugins.datasets.human_parts import ignored_without_parts
from mtl_plugins.datasets.pascal_context import classes, layout
from mtl_plugins.datasets.pascal_context.parts import paint_parts

from .conftest import COUNTS, SIZE


def test_files_are_those_of_the_archive(exported):
    ids = [f'2008_{n:06d}' for n in range(1, COUNTS['train'] + 1)] + [
        f'2009_{n:06d}' for n in range(1, COUNTS['val'] + 1)
    ]
    files = {str(path.relative_to(exported)) for path in exported.rglob('*') if path.is_file()}
    lists = {f'ImageSets/{kind}/{split}.txt' for kind in ('Context', 'Parts') for split in ('train', 'val')}
    semseg = {file for file in files if file.startswith('semseg/')}
    assert {file.rpartition('/')[2] for file in semseg} == {f'{identifier}.png' for identifier in ids}
    assert {file.rpartition('/')[0] for file in semseg} == {layout.SEMSEG, layout.SEMSEG_FALLBACK}
    expected = {
        f'{folder}/{identifier}{ending}'
        for identifier in ids
        for folder, ending in (
            ('JPEGImages', '.jpg'),
            ('pascal-context/trainval', '.mat'),
            ('human_parts', '.mat'),
            ('normals_distill', '.png'),
            ('sal_distill', '.png'),
        )
    }
    assert files == expected | lists | semseg | {'fixture.json'}


def test_formats_are_those_of_the_archive(exported):
    for folder, mode, kind in (
        ('JPEGImages', 'RGB', 'JPEG'),
        ('semseg/VOC12', 'P', 'PNG'),
        ('normals_distill', 'RGB', 'PNG'),
        ('sal_distill', 'L', 'PNG'),
    ):
        for path in (exported / folder).iterdir():
            with Image.open(path) as image:
                assert (image.mode, image.format) == (mode, kind)
    for path in (exported / layout.LABEL_MAPS).iterdir():
        assert scipy.io.loadmat(path)['LabelMap'].dtype == np.uint16
    names = [[], []]
    for path in (exported / layout.HUMAN_PARTS).iterdir():
        anno = scipy.io.loadmat(path)['anno']
        assert anno.shape == (1, 1)
        assert anno.dtype.names == ('imname', 'objects')
        assert anno['imname'][0, 0].item() == path.stem
        objects = anno['objects'][0, 0]
        if objects.size:
            assert objects.dtype.names == ('class', 'class_ind', 'mask', 'parts')
        for item in objects.ravel():
            assert item['class'].item() == classes.SEMSEG[item['class_ind'].item()]
            names[item['class_ind'].item() == classes.PERSON].append(item['parts'].size)
            for part in item['parts'].ravel() if item['parts'].size else ():
                assert part.dtype.names == ('part_name', 'mask')
                assert part['part_name'].item() in classes.PART_IDS
                assert part['mask'].dtype == np.uint8
    assert set(names[0]) == {0}  # objects without parts
    assert max(names[1]) > 5


def test_lists_are_json_with_a_class_per_object(exported):
    for split, count in COUNTS.items():
        lists = json.loads((exported / 'ImageSets/Parts' / f'{split}.txt').read_text())
        assert list(lists) == (exported / 'ImageSets/Context' / f'{split}.txt').read_text().split()
        assert len(lists) == count
        found = {value for objects in lists.values() for value in objects}
        assert found <= {-1, 9, 11, 15, 18}
        assert {-1, 15} <= found


def test_sizes_vary(exported):
    sizes = set()
    for path in (exported / 'JPEGImages').iterdir():
        with Image.open(path) as image:
            sizes.add((image.height, image.width))
    height, width = SIZE
    assert {SIZE, (width, height)} < sizes
    assert max(max(size) for size in sizes) == width


def room_with_people(rng, size=(40, 50)):
    """Two separate people of random parts, and a chair."""
    semseg, parts = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    for left in (2, 27):
        area = slice(3, 37), slice(left, left + 20)
        parts[area] = rng.integers(1, 7, (34, 20))
        semseg[area] = 11
    semseg[38:] = 6
    return semseg, parts


@pytest.mark.parametrize('seed', range(5))
def test_parts_of_people_overlap_and_paint_the_map_again(seed):
    semseg, parts = room_with_people(np.random.default_rng(seed))
    objects = scene_objects(semseg, parts, with_empty=True)
    assert sorted(item.class_index for item in objects) == [5, 9, 15, 15]
    cover = sum(part.mask.astype(int) for item in objects for part in item.parts)
    assert cover.max() > 2
    np.testing.assert_array_equal(paint_parts(objects), parts)
    # The torso lies under the limbs: painted in the opposite order, the map is another one.
    backwards = [type(item)(item.name, item.class_index, item.mask, item.parts[::-1]) for item in objects]
    assert (paint_parts(backwards) != parts).any()


def test_every_name_of_a_part_occurs():
    names = set()
    for seed in range(3):
        for item in scene_objects(*room_with_people(np.random.default_rng(seed))):
            names |= {part.name for part in item.parts}
    assert names == set(classes.PART_IDS)


def test_a_room_without_people():
    assert scene_objects(np.zeros((5, 6), np.uint8), np.full((5, 6), 255, np.uint8)) == []
    assert paint_parts([]) is None
    assert (ignored_without_parts(np.zeros((5, 6), np.uint8)) == 255).all()


def test_an_export_can_be_repeated_but_harms_no_other_folder(tmp_path, render_cache):
    counts = {'train': 1, 'val': 1}
    folder = export_pascal_context(tmp_path / 'a', counts, (32, 40), cache_dir=render_cache, part_lists=False)
    assert not (folder / 'ImageSets/Parts').exists()
    before = {path: path.read_bytes() for path in folder.rglob('*.png')}
    again = export_pascal_context(tmp_path / 'a', counts, (32, 40), cache_dir=render_cache, part_lists=False)
    assert before == {path: path.read_bytes() for path in again.rglob('*.png')}
    with pytest.raises(FileExistsError, match='not empty'):
        export_pascal_context(tmp_path / 'a', counts, (32, 48), cache_dir=render_cache)
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / 'mine').write_text('')
    with pytest.raises(FileExistsError):
        export_pascal_context(tmp_path / 'b', cache_dir=render_cache)


@pytest.mark.parametrize('counts', [{'train': 0}, {'test': 3}])
def test_wrong_counts(tmp_path, counts):
    with pytest.raises(ValueError, match='counts'):
        export_pascal_context(tmp_path / 'a', counts)
