import json
import shutil

import numpy as np
import pytest
import scipy.io
from exporters.mannequins import to_struct
from exporters.pascal_context import write_palette_png
from PIL import Image

from mtl_plugins.datasets.pascal_context import PascalContextCheck, layout
from mtl_plugins.datasets.pascal_context.parts import Part, PartObject, read_objects
from mtl_plugins.datasets.verification import get_layout_check
from mtl_plugins.datasets.verification.runner import verify

from .conftest import COUNTS

FIRST = '2008_000001'
IMAGE = f'JPEGImages/{FIRST}.jpg'
SEMSEG = f'semseg/VOC12/{FIRST}.png'
LABELS = f'pascal-context/trainval/{FIRST}.mat'
PARTS = f'human_parts/{FIRST}.mat'
NORMALS = f'normals_distill/{FIRST}.png'
SALIENCY = f'sal_distill/{FIRST}.png'
ALL = (IMAGE, SEMSEG, LABELS, PARTS, NORMALS, SALIENCY)


def problems_of(root):
    return [(problem.kind, problem.path, problem.detail) for problem in verify(PascalContextCheck(root)).problems]


def only_problem(root):
    (problem,) = problems_of(root)
    return problem


def test_an_export_is_clean(exported):
    result = verify(PascalContextCheck(exported))
    assert result.is_clean
    assert result.num_samples == sum(COUNTS.values())
    assert result.num_files == 6 * sum(COUNTS.values()) + 4


def test_it_is_found_by_name_and_in_the_parent(exported):
    check = get_layout_check('pascal_context')(exported.parent)
    assert check.root == exported
    described = check.describe()
    assert described['folder'] == str(exported)
    assert 'not the real data' in described['data']
    assert described['train'] == f'{COUNTS["train"]} images'
    with pytest.raises(FileNotFoundError, match='ImageSets/Context'):
        PascalContextCheck(exported / 'semseg')


def test_without_the_mark_the_counts_are_those_of_the_papers(copy):
    (copy / 'fixture.json').unlink()
    found = problems_of(copy)
    assert [(kind, path) for kind, path, _ in found] == [
        ('wrong count', 'ImageSets/Context/train.txt'),
        ('wrong count', 'ImageSets/Context/val.txt'),
    ]
    assert [detail for *_, detail in found] == [
        f'expected 4998 samples, found {COUNTS["train"]}',
        f'expected 5105 samples, found {COUNTS["val"]}',
    ]


@pytest.mark.parametrize('path', ALL)
def test_missing_files(copy, path):
    (copy / path).unlink()
    kind, found, _ = only_problem(copy)
    assert (kind, found) == ('missing file', path)


@pytest.mark.parametrize('path', ALL)
@pytest.mark.parametrize('keep', [0.0, 0.1, 0.5, 0.99])
def test_truncated_files(copy, path, keep):
    data = (copy / path).read_bytes()
    (copy / path).write_bytes(data[: int(len(data) * keep)])
    assert only_problem(copy)[:2] == ('unreadable file', path)


@pytest.mark.parametrize('path', ALL)
def test_wrong_sizes(copy, path):
    if path.endswith('.mat'):
        if path == LABELS:
            labels = scipy.io.loadmat(copy / path)['LabelMap']
            scipy.io.savemat(copy / path, {'LabelMap': labels[:-3]})
        else:
            objects = [
                PartObject(
                    item.name,
                    item.class_index,
                    item.mask[:-3],
                    tuple(Part(part.name, part.mask[:-3]) for part in item.parts),
                )
                for item in read_objects(copy / path)
            ]
            scipy.io.savemat(copy / path, to_struct('a', objects))
    else:
        with Image.open(copy / path) as image:
            image.crop((0, 0, image.width, image.height - 3)).save(copy / path)
    kind, found, detail = only_problem(copy)
    assert (kind, found) == ('wrong size', path)
    assert 'expected 72 x 96 (height x width), found 69 x 96' in detail


def as_grey(image):
    return image.convert('L')


def as_colours(image):
    return image.convert('RGB')


def as_16_bits(image):
    return Image.fromarray(np.array(image.convert('L')).astype(np.uint16))


@pytest.mark.parametrize(
    ('path', 'convert'),
    [
        (IMAGE, as_grey),
        (SEMSEG, as_colours),
        (SEMSEG, as_16_bits),
        (NORMALS, as_grey),
        (SALIENCY, as_colours),
        (SALIENCY, as_16_bits),
    ],
)
def test_wrong_formats(copy, path, convert):
    with Image.open(copy / path) as image:
        converted = convert(image)
    converted.save(copy / path)
    assert only_problem(copy)[:2] == ('wrong format', path)


def test_a_png_under_the_name_of_a_jpeg(copy):
    with Image.open(copy / IMAGE) as image:
        image.save(copy / IMAGE, format='PNG')
    assert only_problem(copy)[:2] == ('wrong format', IMAGE)


@pytest.mark.parametrize('dtype', [np.float64, np.complex128])
def test_label_maps_that_are_no_integers(copy, dtype):
    labels = scipy.io.loadmat(copy / LABELS)['LabelMap']
    scipy.io.savemat(copy / LABELS, {'LabelMap': labels + 0.5 * dtype(1)})
    assert only_problem(copy)[:2] == ('wrong format', LABELS)


def test_values_out_of_range(copy):
    labels = scipy.io.loadmat(copy / LABELS)['LabelMap']
    labels[0, 0] = 460
    scipy.io.savemat(copy / LABELS, {'LabelMap': labels})
    with Image.open(copy / SEMSEG) as image:
        indices = np.array(image)
    indices[0, :5] = 21
    write_palette_png(copy / SEMSEG, indices)
    objects = read_objects(copy / PARTS)
    scipy.io.savemat(copy / PARTS, to_struct('a', [*objects, person_with('wing', labels.shape)]))
    lists = copy / layout.part_list_file('train')
    content = json.loads(lists.read_text())
    content[FIRST].append(15)
    lists.write_text(json.dumps(content))
    found = problems_of(copy)
    assert {(kind, path) for kind, path, _ in found} == {
        ('values out of range', path) for path in (LABELS, SEMSEG, PARTS)
    }
    details = ' '.join(detail for *_, detail in found)
    for text in ('0..459', '460', 'id 21 in 5 pixels', "'wing'"):
        assert text in details


def person_with(name, size):
    mask = np.ones(size, bool)
    return PartObject('person', 15, mask, (Part(name, mask),))


def test_files_that_say_nothing(copy):
    labels = scipy.io.loadmat(copy / LABELS)['LabelMap']
    scipy.io.savemat(copy / LABELS, {'LabelMap': np.zeros_like(labels)})
    write_palette_png(copy / SEMSEG, np.full(labels.shape, 255))
    Image.fromarray(np.full((*labels.shape, 3), 127, np.uint8)).save(copy / NORMALS)
    assert {(kind, path) for kind, path, _ in problems_of(copy)} == {
        ('no labelled pixel', path) for path in (LABELS, SEMSEG, NORMALS)
    }


def test_another_structure_in_the_annotation(copy):
    scipy.io.savemat(copy / PARTS, {'anno': np.zeros((3, 3))})
    kind, path, detail = only_problem(copy)
    assert (kind, path) == ('unreadable file', PARTS)
    assert 'struct' in detail


# Folders and lists


@pytest.mark.parametrize('folder', ['JPEGImages', 'human_parts', 'pascal-context', 'sal_distill', 'normals_distill'])
def test_missing_folders(copy, folder):
    shutil.rmtree(copy / folder)
    assert only_problem(copy)[:2] == ('missing folder', {'pascal-context': layout.LABEL_MAPS}.get(folder, folder))


def test_one_folder_of_semantic_labels_is_enough_but_none_is_not(copy):
    for path in (copy / layout.SEMSEG).iterdir():
        path.rename(copy / layout.SEMSEG_FALLBACK / path.name)
    shutil.rmtree(copy / layout.SEMSEG)
    assert not problems_of(copy)
    shutil.rmtree(copy / layout.SEMSEG_FALLBACK)
    assert only_problem(copy)[:2] == ('missing folder', 'semseg')


@pytest.mark.parametrize(
    ('change', 'kind'),
    [
        (lambda ids: [], 'empty split'),
        (lambda ids: ids[:-1], 'wrong count'),
        (lambda ids: [*ids, ids[0]], 'duplicate ids'),
        (lambda ids: [*ids[:-1], '2011_000001'], 'unknown ids'),
        (lambda ids: [*ids[:-1], '2009_000001'], 'duplicate ids'),
    ],
)
def test_damaged_splits(copy, change, kind):
    path = copy / layout.split_file('train')
    path.write_text('\n'.join(change(path.read_text().split())))
    assert kind in {found for found, *_ in problems_of(copy)}


def test_splits_of_other_systems_are_fine_and_absent_ones_are_not(copy):
    path = copy / layout.split_file('train')
    path.write_bytes('\r'.join(path.read_text().split()).encode())
    assert not problems_of(copy)
    path.unlink()
    assert ('missing file', 'ImageSets/Context/train.txt') in {found[:2] for found in problems_of(copy)}
    path.write_bytes(b'\xff\xfe\xfa\x00')
    assert ('unreadable file', 'ImageSets/Context/train.txt') in {found[:2] for found in problems_of(copy)}


@pytest.mark.parametrize('change', ['absent', 'damaged', 'other ids', 'other classes'])
def test_lists_of_people(copy, change):
    path = copy / layout.part_list_file('train')
    lists = json.loads(path.read_text())
    if change == 'absent':
        path.unlink()
        assert not problems_of(copy)
        assert 'train: absent' in PascalContextCheck(copy).describe()['lists of people']
        return
    if change == 'damaged':
        path.write_text('not json')
    elif change == 'other ids':
        path.write_text(json.dumps({**lists, '2011_000001': [15]}))
    else:
        path.write_text(json.dumps({**lists, FIRST: [8]}))
    kind, found, detail = only_problem(copy)
    assert kind == 'wrong list of people'
    assert found == (PARTS if change == 'other classes' else 'ImageSets/Parts/train.txt')
    assert {'damaged': 'JSON', 'other ids': '1 other ids', 'other classes': '[8]'}[change] in detail
