"""What inference finds and reads: folders behind links, videos that end early, GIFs of other programs."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest
from PIL import Image

from mtl_plugins.cli import infer
from mtl_plugins.cli.parsers.infer import EPILOG
from mtl_plugins.datasets.photo_files import UnreadablePhotoError, find_photos
from mtl_plugins.errors import UserError
from mtl_plugins.inference.sources import Inputs

FRAMES = 12


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30, 3), 99, np.uint8)).save(path)
    return path


def read(inputs):
    """Frames that can be read, and the reasons of the others."""
    frames, reasons = [], []
    for entry in inputs:
        try:
            frames.append(entry.load())
        except UnreadablePhotoError as error:
            reasons.append(f'{entry.source}: {error}')
    return frames, reasons


def test_folders_are_searched_as_the_data_set_does_behind_links_and_without_end(tmp_path):
    root, elsewhere = tmp_path / 'root', tmp_path / 'elsewhere'
    picture(root / 'a.png')
    picture(root / 'sub' / 'b.PNG')
    picture(elsewhere / 'c.png')
    picture(elsewhere / 'deep' / 'd.jpg')
    picture(root / '.hidden' / 'e.png')
    (root / 'link').symlink_to(elsewhere)
    (root / 'file.png').symlink_to(elsewhere / 'c.png')
    (elsewhere / 'back').symlink_to(root)  # a cycle over two folders
    (root / 'sub' / 'self').symlink_to(root / 'sub')
    (root / 'folder.png').mkdir()
    found = [photo.name for photo in find_photos(root)]
    assert found == ['a.png', 'file.png', 'link/c.png', 'link/deep/d.jpg', 'sub/b.PNG']
    assert [entry.name for entry in Inputs(root)] == [os.path.splitext(name)[0] for name in found]


def test_what_a_folder_holds_besides_is_told(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr('mtl_plugins.datasets.photo_files.print_log', lambda text, **_: told.append(text))
    for name in ('a.png', 'sub/b.jpg'):
        picture(tmp_path / name)
    for name in ('labels.json', '.d.mp4'):
        (tmp_path / name).write_text('')
    assert len(Inputs(tmp_path)) == len(find_photos(tmp_path)) == 2
    assert not told
    for name in ('sub/c.GIF', 'd.mp4'):
        (tmp_path / name).write_text('')
    for listed in (Inputs, find_photos):
        assert len(listed(tmp_path)) == 2
        assert told.pop().startswith(
            f'2 pictures or videos in {tmp_path} are left out, for example {tmp_path}/d.mp4: of a folder only files'
        )


def test_folders_that_link_to_each_other_are_listed_once_and_a_link_to_itself_is_one_lost_picture(tmp_path):
    names = [f'd{number}' for number in range(9)]
    for name in names:
        picture(tmp_path / name / 'p.png')
    for name in names:
        for other in names:
            (tmp_path / name / f'l{other}').symlink_to(tmp_path / other)
    (tmp_path / 'd0' / 'self.png').symlink_to('self.png')
    wanted = [f'{name}/{file}' for name in names for file in (['p.png', 'self.png'] if name == 'd0' else ['p.png'])]
    assert [photo.name for photo in find_photos(tmp_path)] == wanted
    frames, reasons = read(Inputs(tmp_path))
    assert (len(frames), len(reasons)) == (9, 1)


def test_a_pipe_called_like_a_picture_is_named(tmp_path):
    picture(tmp_path / 'a.png')
    os.mkfifo(tmp_path / 'b.png')
    frames, reasons = read(Inputs(tmp_path))
    assert len(frames) == 1
    assert reasons[0].endswith('but found a named pipe (FIFO) instead of a file')
    with pytest.raises(UserError, match=r'b\.png: expected a picture, folder or video, but found a named pipe'):
        Inputs(tmp_path / 'b.png')


def video(path, codec):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 10, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(FRAMES):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(('suffix', 'codec'), [('.avi', 'MJPG'), ('.mkv', 'mp4v')])
@pytest.mark.parametrize('fps', [None, 5])
def test_a_truncated_video_says_how_many_frames_are_there(tmp_path, suffix, codec, fps):
    path = video(tmp_path / f'v{suffix}', codec)
    frames, reasons = read(Inputs(path, fps=fps))
    assert (len(frames), reasons) == (FRAMES if fps is None else FRAMES // 2, [])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    frames, reasons = read(Inputs(path, fps=fps))
    assert 0 < len(frames) < FRAMES
    assert len(reasons) == 1
    assert f'of {FRAMES} frames can be read' in reasons[0]
    assert str(path) in reasons[0]
    if fps is None:
        assert f'only {len(frames)} of {FRAMES}' in reasons[0]


@pytest.mark.parametrize('delay', [0, 10, 40, 500])
def test_gifs_give_all_frames_whatever_their_delays(tmp_path, delay):
    path = tmp_path / 'a.gif'
    frames = [Image.fromarray(np.full((20, 30, 3), 40 * number, np.uint8)) for number in range(5)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=500, loop=0)
    data = path.read_bytes()
    control = b'\x21\xf9\x04'
    for place in [at for at in range(len(data)) if data[at : at + 3] == control]:
        data = data[: place + 4] + (delay // 10).to_bytes(2, 'little') + data[place + 6 :]
    assert data.count(control) >= 5
    path.write_bytes(data)
    inputs = Inputs(path)
    entries = list(inputs)
    assert len(entries) == len(inputs) == 5
    assert [int(entry.load().mean().round()) for entry in entries] == [0, 40, 80, 120, 160]
    assert entries[0].video.fps == pytest.approx(1000 / (delay if delay > 10 else 100))
    path.write_bytes(data[: len(data) * 3 // 4])
    frames, reasons = read(Inputs(path))
    assert 0 < len(frames) < 5
    assert 'truncated' in ' '.join(reasons)
    path.write_bytes(b'GIF89a' + b'\xff' * 20)
    with pytest.raises(UserError, match='cannot read the video'):
        Inputs(path)


def test_damage_in_the_middle_and_containers_without_a_count_are_told(tmp_path):
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).quantize() for _ in range(6)]
    gif = tmp_path / 'a.gif'
    frames[0].save(gif, save_all=True, append_images=frames[1:], duration=100)  # each with colours of its own
    data = bytearray(gif.read_bytes())
    gif.write_bytes(data + b'\0\0')
    assert [len(part) for part in read(Inputs(gif))] == [6, 0]
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    gif.write_bytes(data)
    found, reasons = read(Inputs(gif))
    assert 0 < len(found) < 6
    assert f'no end mark follows frame {len(found) - 1}' in reasons[0]
    path = video(tmp_path / 'v.wmv', 'WMV2')
    assert [len(part) for part in read(Inputs(path))] == [FRAMES, 0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
    found, reasons = read(Inputs(path))
    assert len(found) < FRAMES
    assert f'truncated behind frame {len(found) - 1}' in reasons[0]


@pytest.mark.parametrize(('skipped', 'code'), [([], 0), ([('a.png', 'damaged')], 1)])
def test_the_exit_code_tells_whether_all_inputs_were_read(monkeypatch, capsys, skipped, code):
    class Fake:
        tasks = ('depth',)

        def __init__(self, *args, **kwargs):
            pass

        def __call__(self, *args, **kwargs):
            return dict(sources=['b.png'], outputs=[], skipped=skipped)

    monkeypatch.setattr(infer, 'MultiTaskInferencer', Fake)
    assert infer.main(['config.py', 'model.pth', 'photos', '--out', 'out']) == code
    assert ('a.png: damaged' in capsys.readouterr().err) == bool(code)
    assert 'Exit code' in EPILOG
