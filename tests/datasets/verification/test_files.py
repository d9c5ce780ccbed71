import numpy as np
import pytest
from PIL import Image

from mtl_plugins.datasets.verification import (
    check_decodes,
    check_ids,
    check_jpeg,
    check_npy,
    check_png,
    check_target,
    make_problem,
)

SIZE = (20, 30)


@pytest.fixture
def root(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'rgb.png')
    Image.fromarray(pixels).save(tmp_path / 'rgb.jpg')
    Image.fromarray(pixels[..., 0]).save(tmp_path / 'grey.png')
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / 'grey16.png')
    Image.fromarray(pixels).quantize(16).save(tmp_path / 'palette.png', bits=4)
    np.save(tmp_path / 'a.npy', pixels[..., 0].astype(np.float32))
    return tmp_path


def kinds(problems):
    return [problem.kind for problem in problems]


@pytest.mark.parametrize(
    ('name', 'channels', 'bits'), [('rgb', 3, 8), ('grey', 1, 8), ('grey16', 1, 16), ('palette', 1, 4)]
)
def test_the_header_of_a_png_is_checked(root, name, channels, bits):
    path = f'{name}.png'
    assert check_png(root, path, size=SIZE, channels=channels, bits=bits) == []
    assert check_png(root, path, size=SIZE, channels=(1, 3), bits=(4, 8, 16)) == []
    assert kinds(check_png(root, path, size=SIZE[::-1])) == ['wrong size']
    assert kinds(check_png(root, path, channels=4)) == ['wrong format']
    assert kinds(check_png(root, path, bits=2)) == ['wrong format']
    [problem] = check_png(root, path, size=(21, 30))
    assert problem.path == path
    assert problem.detail == 'expected 21 x 30 (height x width), found 20 x 30'


@pytest.mark.parametrize('name', ['rgb.png', 'rgb.jpg', 'a.npy'])
@pytest.mark.parametrize('part', [0.0, 0.02, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_unreadable_wherever_it_ends(root, name, part):
    data = (root / name).read_bytes()
    (root / name).write_bytes(data[: int(len(data) * part)])
    check = {'png': check_png, 'jpg': check_jpeg, 'npy': check_npy}[name[-3:]]
    assert kinds(check(root, name)) == ['unreadable file']
    if name == 'rgb.jpg' or part < 0.9:
        assert not name.endswith('.jpg') or kinds(check_decodes(root, name)) == ['unreadable file']


def test_one_flipped_bit_in_a_png_is_noticed(root):
    data = bytearray((root / 'rgb.png').read_bytes())
    data[len(data) // 2] ^= 4
    (root / 'rgb.png').write_bytes(data)
    assert kinds(check_png(root, 'rgb.png')) == ['unreadable file']
    assert 'checksum' in check_png(root, 'rgb.png')[0].detail


def test_a_file_of_another_format_is_named(root):
    (root / 'b.png').write_bytes((root / 'rgb.jpg').read_bytes())
    assert kinds(check_png(root, 'b.png')) == ['unreadable file']
    (root / 'b.jpg').write_bytes((root / 'rgb.png').read_bytes())
    assert kinds(check_jpeg(root, 'b.jpg')) == ['wrong format']
    assert kinds(check_jpeg(root, 'rgb.jpg', channels=1)) == ['wrong format']
    assert kinds(check_jpeg(root, 'rgb.jpg', size=(1, 2))) == ['wrong size']
    assert check_jpeg(root, 'rgb.jpg', size=SIZE) == check_decodes(root, 'rgb.png', size=SIZE) == []


def test_arrays_are_checked_for_shape_and_type(root):
    assert check_npy(root, 'a.npy', shape=SIZE) == []
    assert kinds(check_npy(root, 'a.npy', shape=(*SIZE, 3))) == ['wrong size']
    assert kinds(check_npy(root, 'a.npy', dtypes=('uint8',))) == ['wrong format']
    assert kinds(check_npy(root, 'a.npy', shape=SIZE[::-1], dtypes=['int32'])) == ['wrong size', 'wrong format']


def test_arrays_of_objects_are_refused_without_loading_them(root):
    np.save(root / 'b.npy', np.array([{}, None], dtype=object))
    [problem] = check_npy(root, 'b.npy')
    assert problem.kind == 'unreadable file'
    assert 'Python objects' in problem.detail


@pytest.mark.parametrize('check', [check_png, check_jpeg, check_npy, check_decodes])
def test_missing_files_are_left_to_the_runner(root, check):
    assert check(root, 'nothing') == []
    assert check_target(root, 'nothing', 'depth', lambda: 1 / 0) == []


def zeros(dtype, *channels):
    return np.zeros((*SIZE, *channels), dtype)


@pytest.mark.parametrize(
    ('task', 'target', 'kind'),
    [
        ('semseg', zeros('u1') + 4, None),
        ('semseg', zeros('u1') + 5, 'values out of range'),
        ('semseg', zeros('u1') + 255, 'no labelled pixel'),
        ('edge', zeros('u1') + 1, None),
        ('edge', zeros('u1') + 2, 'values out of range'),
        ('depth', zeros('f4') + 2, None),
        ('depth', zeros('f4'), 'no labelled pixel'),
        ('depth', zeros('f4') + np.nan, 'no labelled pixel'),
        ('depth', zeros('f4') - 1, 'values out of range'),
        ('normals', zeros('f4', 3), 'no labelled pixel'),
        ('normals', zeros('f4', 3) + 0.577, None),
        ('normals', zeros('f4', 3) + 1, 'values out of range'),
        ('reshading', zeros('f4'), None),
        ('reshading', zeros('f4') + np.nan, 'no labelled pixel'),
        ('reshading', zeros('f4') + np.inf, 'values out of range'),
    ],
)
def test_values_are_checked_per_task(root, task, target, kind):
    problems = check_target(root, 'a.npy', task, lambda: target, num_classes=5)
    assert kinds(problems) == [kind] * (kind is not None)
    assert all(problem.path == 'a.npy' and task in problem.detail for problem in problems)


def test_a_target_is_read_with_the_function_of_the_loader(root):
    def fails():
        raise ValueError('what is\nthis')

    assert check_target(root, 'a.npy', 'depth', lambda: zeros('f4') + 1, size=SIZE) == []
    [problem] = check_target(root, 'a.npy', 'depth', fails)
    assert (problem.kind, problem.detail) == ('unreadable file', 'what is this')
    assert kinds(check_target(root, 'a.npy', 'depth', lambda: zeros('f4') + 1, size=(2, 2))) == ['wrong size']


def test_split_files_are_checked():
    assert check_ids('train.txt', ['a', 'b'], expected=2) == check_ids('train.txt', ['a']) == []
    assert kinds(check_ids('train.txt', [], expected=2)) == ['empty split']
    assert kinds(check_ids('train.txt', ['a'], expected=2)) == ['wrong count']
    [problem] = check_ids('train.txt', ['a', 'b', 'a'], expected=2)
    assert (problem.path, problem.kind) == ('train.txt', 'duplicate ids')
    assert 'a' in problem.detail


def test_a_new_kind_needs_a_remedy():
    with pytest.raises(KeyError):
        make_problem('strange', 'x', 'y')
    assert make_problem('strange', 'x', 'y: z', remedy='w').detail == 'y: z'
