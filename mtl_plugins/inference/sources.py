"""What can be predicted: pictures, folders of pictures, arrays, videos, and lists of them."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from mtl_plugins.datasets.files.source import special_file
from mtl_plugins.datasets.photo_files import SUFFIXES, UnreadablePhotoError, load_photo, picture_paths
from mtl_plugins.errors import UserError, UserFileNotFoundError, UserTypeError
from mtl_plugins.utils.files import given_path

from .options import checked

VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.gif')
EXACT = ('.mp4', '.avi', '.mov', '.m4v', '.gif')
"""Containers that tell the number of their frames."""
ASF_PROPERTIES = bytes.fromhex('a1dcab8c47a9cf118ee400c00c205365')
"""What the properties of a file of Windows Media begin with; its size follows after 40 bytes."""
SHORTEST_DELAY, DEFAULT_DELAY = 10, 100
"""Milliseconds; delays of a GIF up to the first are shown as the second, as browsers do."""


@dataclass(frozen=True)
class Video:
    """A video that frames come from.

    Args:
        path: The file.
        name: Its name among the outputs.
        fps: Frames per second that are taken.
        step: Every ``step``-th frame is taken.
        frames: How many that will be, as far as the file tells.
        promised: How many frames the file says that it has, 0 if it does not say so.
    """

    path: str
    name: str
    fps: float
    step: int
    frames: int
    promised: int = 0


class Entry(NamedTuple):
    """One picture to predict.

    Attributes:
        name: Unique and safe as a part of a path, without suffix; may contain folders.
        source: What messages call it.
        load: Returns it as ``(H, W, 3)`` uint8 BGR.
        video: The video that it is a frame of.
    """

    name: str
    source: str
    load: Callable[[], np.ndarray]
    video: Video | None = None


class Inputs:
    """All pictures of a call, in order; iterate once or more.

    Args:
        inputs: Path of a picture, a folder or a video; an array ``(H, W, 3)`` uint8; or a list of these. A folder means
            all pictures in it and in its folders.
        channel_order: ``'bgr'`` (as OpenCV and MMCV load pictures) or ``'rgb'``; concerns arrays alone.
        fps: Frames per second to take of videos, None for all of them.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If a folder has no picture, a video cannot be opened, an array has another shape or type, or an
            option is wrong.
        TypeError: If an input is of another kind.
    """

    def __init__(self, inputs: Any, channel_order: str = 'bgr', fps: float | None = None) -> None:
        options = checked(channel_order=channel_order, fps=fps)
        self.channel_order: str = options['channel_order']
        self.fps: float | None = options['fps']
        self._names: set[str] = set()
        self._parts: list[Entry | Video] = []
        for number, one in enumerate(inputs if isinstance(inputs, list | tuple) else [inputs]):
            self._add(one, number)
        if not self._parts:
            raise UserError('there is nothing to predict: the list of inputs is empty')

    def __len__(self) -> int:
        """Number of pictures, as far as videos tell how long they are."""
        return sum(part.frames if isinstance(part, Video) else 1 for part in self._parts)

    def __iter__(self) -> Iterator[Entry]:
        for part in self._parts:
            if isinstance(part, Video):
                yield from (_gif_frames if _is_gif(part.path) else _frames)(part)
            else:
                yield part

    def _add(self, one: Any, number: int) -> None:
        if isinstance(one, np.ndarray):
            self._add_array(one, number)
        elif not isinstance(one, str | os.PathLike):
            raise UserTypeError(
                f'input {number}: expected the path of a picture, folder or video, or an array (H, W, 3), but got '
                f'{type(one).__name__}'
            )
        elif not (path := given_path(one, f'input {number}')).exists():
            raise UserFileNotFoundError(f'input {one} does not exist')
        elif path.is_dir():
            self._add_folder(path)
        elif special_file(path):
            raise UserError(f'input {one}: expected a picture, folder or video, but found {special_file(path)}')
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            opened = _open_gif if _is_gif(path) else _open_video
            self._parts.append(opened(path, self._unique(path.stem, path.suffix), self.fps))
        else:
            self._add_file(path, path.stem)

    def _add_array(self, array: np.ndarray, number: int) -> None:
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or not array.size:
            raise UserError(
                f'input {number}: an array must have the shape (H, W, 3) and the type uint8 (0..255), but this one has '
                f'{array.shape} and {array.dtype}'
            )
        bgr = array if self.channel_order == 'bgr' else array[..., ::-1]
        name = self._unique(f'image_{number:06d}', '')
        self._parts.append(Entry(name, f'array {number}', partial(np.ascontiguousarray, bgr)))

    def _add_folder(self, folder: Path) -> None:
        found = list(picture_paths(folder))
        if not found:
            raise UserError(
                f'there is no picture in {folder}; looked in it and its folders for files that end in '
                f'{", ".join(SUFFIXES)} (give a video by its own path)'
            )
        for path in found:
            self._add_file(path, path.relative_to(folder).with_suffix('').as_posix())

    def _add_file(self, path: Path, name: str) -> None:
        self._parts.append(Entry(self._unique(name, path.suffix), str(path), partial(_load_bgr, path)))

    def _unique(self, name: str, suffix: str) -> str:
        """``photo.png`` beside ``photo.jpg`` becomes ``photo_png``, the third of a name ``photo_2``."""
        choices = [name, name + suffix.replace('.', '_'), *(f'{name}_{n}' for n in range(2, len(self._names) + 3))]
        unique = next(choice for choice in choices if choice not in self._names)
        self._names.add(unique)
        return unique


def _is_gif(path: str | os.PathLike) -> bool:
    return Path(path).suffix.lower() == '.gif'


def _load_bgr(path: Path) -> np.ndarray:
    return np.ascontiguousarray(load_photo(path)[..., ::-1])


def _open_video(path: Path, name: str, fps: float | None) -> Video:
    capture = cv2.VideoCapture(str(path))
    try:
        opened = capture.isOpened() and capture.grab()
        own, count = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        capture.release()
    if not opened:
        raise UserError(f'cannot read the video {path}: damaged, empty, or of a format that OpenCV does not know')
    own = own if own > 0 else 25.0  # some containers do not tell
    return _video(path, name, own, max(count, 0), fps)


def _video(path: Path, name: str, own: float, count: int, fps: float | None) -> Video:
    step = 1 if fps is None else max(1, round(own / fps))
    return Video(str(path), name, own / step, step, max(1, -(-count // step)), count)


def _open_gif(path: Path, name: str, fps: float | None) -> Video:
    """Pillow reads what OpenCV's decoders leave out: frames without a delay, which viewers show for a tenth second."""
    try:
        with Image.open(path) as gif:
            count = getattr(gif, 'n_frames', 1)
            delays = []
            for index in range(count):
                gif.seek(index)
                delays.append(gif.info.get('duration') or 0)
    except Exception as error:  # damaged input makes decoders raise nearly anything
        raise UserError(f'cannot read the video {path}: damaged, empty, or no GIF ({error})') from error
    shown = [delay if delay > SHORTEST_DELAY else DEFAULT_DELAY for delay in delays]
    return _video(path, name, 1000 * len(shown) / sum(shown), count, fps)


def _gif_frames(video: Video) -> Iterator[Entry]:
    with Image.open(video.path) as gif:
        for index in range(0, video.promised, video.step):
            try:
                gif.seek(index)
                frame = np.asarray(gif.convert('RGB'))[..., ::-1]
            except Exception:  # see _open_gif
                yield from _shortfall(video, index)
                return
            yield _frame(video, index, True, frame)
    if not _gif_ends(Path(video.path).read_bytes()):
        text = f'no end mark follows frame {video.promised - 1}: it is damaged or truncated behind it'
        yield _broken(video, text)


def _gif_ends(data: bytes) -> bool:
    """Whether block follows block up to the end mark; Pillow passes over what is damaged, and over all frames in it."""
    place = 13 + _colours(data[10])
    while place < len(data) and data[place] in b'\0!,':  # padding, an extension, a picture
        if data[place] == ord(','):
            place += 11 + (_colours(data[place + 9]) if place + 9 < len(data) else 0)
        elif data[place] == ord('!'):
            place += 2
        else:
            place += 1
            continue
        while place < len(data) and data[place]:
            place += 1 + data[place]
        place += 1
    return data[place : place + 1] == b';'


def _colours(flags: int) -> int:
    """Bytes of the table of colours that flags tell of."""
    return 6 << (flags & 7) if flags & 128 else 0


def _frame(video: Video, index: int, ok: bool, frame: np.ndarray) -> Entry:
    load = partial(_checked, ok, frame, index)
    return Entry(f'{video.name}/{index:06d}', f'{video.path}, frame {index}', load, video)


def _shortfall(video: Video, found: int) -> Iterator[Entry]:
    """An entry that says so if a video ends before it should."""
    # Where a container tells the time instead, the number is reckoned from that, and may be off by one.
    least = video.promised - (Path(video.path).suffix.lower() not in EXACT)
    if _asf_size(video.path) > os.path.getsize(video.path):
        yield _broken(video, f'the file is shorter than it says: it is truncated behind frame {found - 1}')
    elif found < least:
        text = f'only {found} of {video.promised} frames can be read: it is damaged or truncated behind them'
        yield _broken(video, text)


def _asf_size(path: str) -> int:
    """Bytes that a file of Windows Media says it has; 0 of other files. Its time is reckoned from what is there."""
    with open(path, 'rb') as file:
        head = file.read(4096)
    place = head.find(ASF_PROPERTIES)
    return int.from_bytes(head[place + 40 : place + 48], 'little') if place >= 0 else 0


def _broken(video: Video, text: str) -> Entry:
    def load() -> np.ndarray:
        raise UnreadablePhotoError(text)

    return Entry(f'{video.name}/end', video.path, load, video)


def _frames(video: Video) -> Iterator[Entry]:
    capture = cv2.VideoCapture(video.path)
    try:
        index = -1
        while capture.grab():
            index += 1
            if index % video.step:
                continue
            yield _frame(video, index, *capture.retrieve())
        yield from _shortfall(video, index + 1)
    finally:
        capture.release()


def _checked(ok: bool, frame: np.ndarray, index: int) -> np.ndarray:
    if not ok:
        raise UnreadablePhotoError(f'frame {index} cannot be decoded')
    return frame
