import io
import zipfile

import numpy as np
import pytest

from mtl_plugins.datasets.npz import read_npz


def stored(compressed=False, **arrays):
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    file.seek(0)
    return file


ARRAYS = dict(
    a=np.arange(12, dtype=np.uint8).reshape(3, 4),
    b=np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32),
    c=np.float16(3.5),
    d=np.zeros((0, 4)),
    e=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    f=np.array([1, 2], '>i4'),
    g=np.array([True, False]),
)


@pytest.mark.parametrize('compressed', [False, True])
def test_equals_numpy(compressed):
    file = stored(compressed, **ARRAYS)
    found = read_npz(file, ('e', 'a', 'b', 'c', 'd', 'f', 'g'))
    assert list(found) == list('eabcdfg')
    file.seek(0)
    with np.load(file, allow_pickle=False) as archive:
        for name, array in found.items():
            assert (array.dtype, array.shape) == (archive[name].dtype, archive[name].shape)
            np.testing.assert_array_equal(array, archive[name])
            assert array.flags.writeable


def test_other_versions_of_the_format():
    array = np.arange(6.0).reshape(2, 3)
    for version in ((1, 0), (2, 0)):
        inner, outer = io.BytesIO(), io.BytesIO()
        np.lib.format.write_array(inner, array, version)
        with zipfile.ZipFile(outer, 'w') as archive:
            archive.writestr('a.npy', inner.getvalue())
        np.testing.assert_array_equal(read_npz(outer, ['a'])['a'], array)


def test_what_is_refused():
    with pytest.raises(ValueError, match='arrays of objects are not read'):
        read_npz(stored(a=np.array([{}], object)), ['a'])
    with pytest.raises(KeyError, match='b'):
        read_npz(stored(a=np.zeros(2)), ['b'])


@pytest.mark.parametrize('compressed', [False, True])
def test_damage_is_noticed_wherever_it_is(compressed):
    whole = stored(compressed, a=np.arange(40, dtype=np.uint8)).getvalue()
    noticed = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        try:
            array = read_npz(io.BytesIO(bytes(damaged)), ['a'])['a']
        except Exception:
            noticed += 1
        else:  # a byte that says nothing about the array, such as the time of writing
            np.testing.assert_array_equal(array, np.arange(40))
    assert noticed > len(whole) / 3
    for length in range(len(whole)):
        with pytest.raises(Exception):  # noqa: B017, PT011 - damage shows in many ways
            read_npz(io.BytesIO(whole[:length]), ['a'])
