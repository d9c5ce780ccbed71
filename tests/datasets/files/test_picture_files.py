"""Any picture file is read right, and alike, by training, inference, photographs and checks, or it is refused."""

from __future__ import annotations

import functools
import itertools
import os
import socket
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.datasets.files import UnreadableFileError, read_rgb
from mtl_plugins.datasets.files.pictures import LIMIT_ENV, decode_picture, upright_size
from mtl_plugins.datasets.photo_files import UnreadablePhotoError, find_photos, load_photo, read_photo, scan_photos
from mtl_plugins.datasets.verification import check_decodes
from mtl_plugins.errors import UserError
from mtl_plugins.inference.sources import Inputs

from .picture_files import KINDS, SIZE, by_opencv, by_pillow, png, shape, tiff, upright

ORIENTED = tuple(name for name, kind in KINDS.items() if kind.suffix not in ('.bmp', '.npy'))
REFUSED = [name for name, kind in KINDS.items() if kind.tolerance is None]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setattr('mtl_plugins.datasets.files.pictures._SAID', {'turned'})


def written(folder, name, orientation=1, size=SIZE):
    kind, colours = KINDS[name], shape(np.random.default_rng(0), size)
    path = folder / f'a{kind.suffix}'
    path.write_bytes(kind.encode(colours, orientation))
    shown = np.repeat(colours[..., :1], 3, -1) if kind.grey else colours
    return path, upright(shown, orientation)


def predicted(path):
    """The picture as inference takes it, RGB."""
    return next(iter(Inputs([path]))).load()[..., ::-1]


def outcome_of(work):
    """What ``work`` returns, or the error that it raises."""
    try:
        return work()
    except Exception as error:
        return error


READERS = {
    'training': lambda path: read_rgb(path)[..., ::-1],
    'inference': predicted,
    'load_photo': load_photo,
}


@pytest.mark.parametrize('name', KINDS)
def test_every_kind_is_right_and_the_same_everywhere_or_refused_everywhere(tmp_path, name):
    path, shown = written(tmp_path, name)
    tolerance = KINDS[name].tolerance
    if tolerance is None:
        for read in (*READERS.values(), lambda path: read_photo(path, SIZE)):
            with pytest.raises(UserError) as caught:
                read(path)
            text = str(caught.value)
            assert str(path) in text
            assert 'expected a' in text
            assert 'found' in text
            assert 'Restore the file' not in text or KINDS[name].suffix == '.npy'
        assert check_decodes(tmp_path, path.name)
        if KINDS[name].suffix != '.npy':  # which nobody looks for in a folder of photographs
            assert list(scan_photos(find_photos(tmp_path), tmp_path / 'cache').problems) == [path.name]
        return
    results = {reader: read(path) for reader, read in READERS.items()}
    for reader, result in results.items():
        assert result.dtype == np.uint8, reader
        np.testing.assert_array_equal(result, results['training'])
    assert np.abs(results['training'].astype(float) - shown).mean() <= tolerance
    assert results['training'].max() > 200
    assert np.abs(read_photo(path, SIZE).astype(float) - shown).mean() <= tolerance + 2
    assert check_decodes(tmp_path, path.name, size=SIZE) == []


@pytest.mark.parametrize('name', ORIENTED)
def test_orientation_is_treated_alike_in_all_formats(tmp_path, name):
    for orientation in range(2, 9):
        folder = tmp_path / str(orientation)
        folder.mkdir()
        path, shown = written(folder, name, orientation)
        if name in REFUSED:
            with pytest.raises(UserError, match='convert it to 8 bits per channel'):
                read_rgb(path)
            continue
        result = READERS['training'](path)
        assert result.shape == shown.shape
        assert np.abs(result.astype(float) - shown).mean() <= KINDS[name].tolerance
        for read in READERS.values():
            np.testing.assert_array_equal(read(path), result)
        assert upright_size(path.read_bytes()) == shown.shape[:2]
        assert scan_photos(find_photos(folder), tmp_path / 'cache').sizes == {path.name: shown.shape[:2]}
        assert np.abs(read_photo(path, shown.shape[:2]).astype(float) - shown).mean() <= KINDS[name].tolerance + 2
        assert check_decodes(folder, path.name, size=shown.shape[:2]) == []


def test_fuzz_right_or_one_sentence_never_a_wrong_picture(tmp_path):
    """Formats x types x shapes x orientations, drawn and checked against the definition of each."""
    rng = np.random.default_rng(7)
    outcomes = {'right': 0, 'refused': 0}
    for number in range(250):
        name = str(rng.choice(list(KINDS)))
        orientation = int(rng.integers(1, 9)) if name in ORIENTED else 1
        size = tuple(int(side) for side in rng.integers(9, 40, 2))
        folder = tmp_path / str(number)
        folder.mkdir()
        path, shown = written(folder, name, orientation, size)
        data = path.read_bytes()
        if number % 5 == 0:  # damaged: what is read of it, if anything, is not the upper part on grey
            path.write_bytes(data[: int(len(data) * rng.uniform(0.05, 0.98))])
        result = outcome_of(lambda path=path: read_rgb(path)[..., ::-1])
        if isinstance(result, Exception):
            assert isinstance(result, UserError), result
            assert str(path) in str(result)
            assert '\n' not in str(result)
            with pytest.raises(UnreadablePhotoError):
                load_photo(path)
            assert check_decodes(folder, path.name)
            outcomes['refused'] += 1
            continue
        assert result.shape == shown.shape, name
        assert np.abs(result.astype(float) - shown).mean() <= 1.5 * (KINDS[name].tolerance or 0) + 1, (
            name,
            orientation,
        )
        np.testing.assert_array_equal(load_photo(path), result)
        outcomes['right'] += 1
    assert min(outcomes.values()) > 50


@pytest.mark.parametrize('suffix', ['.png', '.webp', '.tif', '.gif'])
def test_of_several_pictures_the_first_is_taken_and_a_warning_tells(tmp_path, suffix, monkeypatch):
    told = []
    monkeypatch.setattr('mtl_plugins.datasets.files.pictures.print_log', lambda text, **_: told.append(text))
    frames = [Image.fromarray(np.full((20, 30, 3), value, np.uint8)) for value in (50, 100, 150)]
    path = tmp_path / f'a{suffix}'
    frames[0].save(path, save_all=True, append_images=frames[1:])
    for read in (read_rgb, load_photo, lambda path: read_photo(path, (20, 30))):
        assert abs(int(read(path).mean()) - 50) < 3
    assert told == [text for text in told if text.startswith(f'{path} holds 3 pictures, of which the first is taken')]
    assert len(told) == 1
    frames[0].save(path)
    monkeypatch.setattr('mtl_plugins.datasets.files.pictures._SAID', set())
    read_rgb(path)
    assert len(told) == 1


def test_a_black_picture_of_16_bits_is_black_and_a_bright_one_keeps_its_values(tmp_path):
    for values in (np.zeros(SIZE, np.uint16), np.full(SIZE, 65535, np.uint16), np.full(SIZE, 257 * 99, np.uint16)):
        for container in (png, tiff):
            path = tmp_path / 'a'
            path.write_bytes(container(values))
            np.testing.assert_array_equal(read_rgb(path), np.repeat((values // 257).astype(np.uint8)[..., None], 3, -1))


@pytest.mark.parametrize('top', [255, 256, 4095, 65535])
def test_jpeg_2000_of_more_than_8_bits_is_not_cut_to_black(tmp_path, top):
    colours = shape(np.random.default_rng(0), (64, 96))  # its encoder takes no smaller ones
    path = tmp_path / 'a.jp2'
    path.write_bytes(by_opencv('.jp2', top)(colours, 1))
    if top == 255:
        np.testing.assert_array_equal(read_rgb(path)[..., ::-1], colours)
        return
    with pytest.raises(UserError, match='a JPEG2000 of more than 8 bits per channel; convert it to 8'):
        read_rgb(path)


@pytest.mark.parametrize('name', ['webp', 'tiff', 'bmp', 'tiff, 16 of 16 bits'])
def test_truncated_files_are_not_said_to_be_of_another_kind(tmp_path, capfd, name):
    path, _ = written(tmp_path, name)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match='damaged') as caught:
        read_rgb(path)
    assert 'unknown content' not in str(caught.value)
    assert capfd.readouterr().err == ''


@pytest.mark.parametrize('trailer', [b'\0' * 5000, b'MotionPhoto_Data' + b'\1' * 9000, None])
def test_what_follows_the_end_of_a_jpeg_does_no_harm_and_a_thumbnail_is_no_end(tmp_path, trailer):
    colours = shape(np.random.default_rng(0), (200, 300))
    data = by_pillow('JPEG', quality=95)(colours, 1)
    if trailer is not None:
        path = tmp_path / 'a.jpg'
        path.write_bytes(data + trailer)
        assert read_rgb(path).shape == (200, 300, 3)
        return
    thumbnail = by_pillow('JPEG', quality=10)(colours[:8, :8], 1)
    segment = b'\xff\xe1' + struct.pack('>H', len(thumbnail) + 8) + b'Exif\0\0' + thumbnail
    assert b'\xff\xd9' in segment
    path = tmp_path / 'a.jpg'
    path.write_bytes(data[:2] + segment + data[2 : len(data) // 3])
    for read in READERS.values():
        with pytest.raises(UserError, match='truncated after'):
            read(path)


def test_decompression_bombs_are_refused_and_the_limit_can_be_raised(tmp_path, monkeypatch):
    side = 40_000
    row = b'\0' + bytes(side // 8)
    compressor = zlib.compressobj(9)
    body = b''.join(compressor.compress(row) for _ in range(100)) + compressor.flush()
    bombs = {
        'bomb.png': _png_of(side, side, body),
        'bomb.jpg': by_pillow('JPEG')(shape(np.random.default_rng(0)), 1),
        'bomb.tif': tiff(shape(np.random.default_rng(0))),
    }
    frame = bombs['bomb.jpg'].index(b'\xff\xc0')
    bombs['bomb.jpg'] = bombs['bomb.jpg'][: frame + 5] + struct.pack('>HH', side, side) + bombs['bomb.jpg'][frame + 9 :]
    for tag, old in ((256, SIZE[1]), (257, SIZE[0])):
        entry = struct.pack('<HHII', tag, 4, 1, old)
        assert entry in bombs['bomb.tif']
        bombs['bomb.tif'] = bombs['bomb.tif'].replace(entry, struct.pack('<HHII', tag, 4, 1, side))
    for name, data in bombs.items():
        path = tmp_path / name
        path.write_bytes(data)
        for read in (*READERS.values(), lambda path: read_photo(path, SIZE)):
            with pytest.raises(UserError, match=f'40000 x 40000 pixels, more than 178956970 .*{LIMIT_ENV}=1600000000'):
                read(path)
        assert 'pixels, more than' in check_decodes(tmp_path, name)[0].detail
    assert len(scan_photos(find_photos(tmp_path), tmp_path / 'cache').problems) == 3
    small = tmp_path / 'small.png'
    small.write_bytes(png(np.zeros((10, 20), np.uint8)))
    monkeypatch.setenv(LIMIT_ENV, '199')
    with pytest.raises(UserError, match='10 x 20 pixels, more than 199'):
        read_rgb(small)
    monkeypatch.setenv(LIMIT_ENV, '200')
    assert read_rgb(small).shape == (10, 20, 3)
    monkeypatch.setenv(LIMIT_ENV, 'many')
    with pytest.raises(UserError, match=r"MTL_PLUGINS_MAX_PIXELS must be a number .* but is 'many'"):
        read_rgb(small)


def _png_of(height, width, body):
    plain = png(np.zeros((1, 8), np.uint8))
    chunk = lambda name, data: struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))  # noqa: E731
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0))
    return plain[:8] + header + chunk(b'IDAT', body) + chunk(b'IEND', b'')


SPECIAL = ('pipe', 'socket', 'device', 'folder')


@pytest.fixture
def special(tmp_path, request, monkeypatch):
    path = tmp_path / 'a.png'
    if request.param == 'pipe':
        os.mkfifo(path)
    elif request.param == 'socket':
        monkeypatch.chdir(tmp_path)  # the names of sockets must be short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind('a.png')
    elif request.param == 'device':
        path.symlink_to('/dev/zero')
    else:
        path.mkdir()
    return path


def within_a_moment(work):
    """Result of ``work``, or the error that it raised; fails if it hangs."""
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(outcome_of(work)), daemon=True)
    thread.start()
    thread.join(60)
    assert outcome, 'it hangs'
    return outcome[0]


@pytest.mark.parametrize('special', SPECIAL, indirect=True)
def test_pipes_sockets_devices_and_folders_are_no_files(special):
    from mtl_plugins.datasets.files import read_colours, read_indices, read_lines, read_mat, read_npy, read_png16
    from mtl_plugins.datasets.verification import check_npy, check_png
    from mtl_plugins.datasets.verification.base import CheckJob
    from mtl_plugins.datasets.verification.runner import run_job

    readers = (
        read_rgb, load_photo, read_colours, read_indices, read_lines, read_npy, read_png16,
        lambda path: read_mat(path, 'a'), lambda path: read_photo(path, SIZE),
    )  # fmt: skip
    for read in readers:
        error = within_a_moment(lambda read=read: read(special))
        assert isinstance(error, (UnreadableFileError, UnreadablePhotoError)), error
        assert 'instead of a file' in str(error)
        assert str(special) in str(error)
    root, name = special.parent, special.name
    job = CheckJob((name,), lambda root: [])
    for check, stamps in itertools.product((check_png, check_npy, check_decodes, None), (True, False)):
        hashed = functools.partial(run_job, root, job, True, stamps)
        found = within_a_moment(functools.partial(check, root, name) if check else hashed)
        found = found if check else found.problems
        assert [problem.kind for problem in found] == ['unreadable file']
    if not special.is_dir():
        problems = within_a_moment(lambda: scan_photos(find_photos(root), root / 'cache').problems)
        assert 'instead of a file' in problems[name]


def test_metadata_without_sense_turn_nothing(tmp_path):
    colours = shape(np.random.default_rng(0))
    for orientation in (0, 9, 65535):
        entries = Image.Exif()
        entries[0x0112] = orientation
        Image.fromarray(colours).save(tmp_path / 'a.png', exif=entries)
        np.testing.assert_array_equal(load_photo(tmp_path / 'a.png'), colours)
    data = by_pillow('JPEG', quality=95)(colours, 6)
    start = data.index(b'Exif\0\0') + 6
    assert decode_picture(data[:start] + b'\xff' * 8 + data[start + 8 :]).bgr.shape == colours.shape


def test_an_orientation_in_xmp_counts_too(tmp_path):
    colours = shape(np.random.default_rng(0))
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.fromarray(colours).save(tmp_path / 'a.jpg', quality=95, xmp=xmp)
    assert read_rgb(tmp_path / 'a.jpg').shape == (SIZE[1], SIZE[0], 3)
    assert load_photo(tmp_path / 'a.jpg').shape == (SIZE[1], SIZE[0], 3)
