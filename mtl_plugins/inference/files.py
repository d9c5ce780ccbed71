"""The files that inference leaves: panels, raw predictions, and a JSON that says what is what."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mtl_plugins.datasets.files import learned_frame
from mtl_plugins.errors import UserOSError
from mtl_plugins.runtime.checkpoints import write_atomically
from mtl_plugins.task_specs import TaskSpec, get_task_spec
from mtl_plugins.utils.files import note_of_others, path_to_write, replacing
from mtl_plugins.visualization import save_image

from .sources import Entry
from .video import VideoFile

VERSION = 1
INDEX = 'predictions.json'
PANELS = 'panels'
MILLIMETRES = 1000
_FARTHEST = np.iinfo(np.uint16).max


def as_map(spec: TaskSpec, data: np.ndarray) -> np.ndarray:
    """A prediction ``(C, H, W)`` as users get it: ``(H, W)`` for one channel, else ``(H, W, C)``.

    Class indices are uint8, everything else is float32.
    """
    array = data.astype(np.uint8 if spec.kind == 'classes' else np.float32, copy=False)
    return array[0] if array.shape[0] == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))


def describe(spec: TaskSpec, meta: Mapping[str, Any]) -> dict[str, Any]:
    """What the files of a task hold, for :data:`INDEX`."""
    about: dict[str, Any] = dict(title=spec.title, kind=spec.kind)
    if spec.kind == 'classes':
        names = (meta.get('classes') or {}).get(spec.key)
        return {**about, 'file': 'png, 8 bit', 'values': 'class index', 'classes': None if names is None else [*names]}
    if spec.kind == 'binary':
        return {**about, 'file': 'png, 8 bit', 'values': 'probability = value / 255'}
    if spec.kind == 'depth':
        values = f'metres = value / {MILLIMETRES}; {_FARTHEST} stands for {_FARTHEST / MILLIMETRES} m and more'
        return {**about, 'file': 'png, 16 bit', 'values': values, 'unit': 'm'}
    if spec.kind == 'normals':
        values = f'unit vectors (H, W, 3) in the frame of the camera: {frame_in_words(spec, meta)}'
        return {**about, 'file': 'npy, float32', 'values': values, 'unit': ''}
    unit = (meta.get('units') or {}).get(spec.key, spec.unit)
    return {**about, 'file': 'npy, float32', 'values': 'as in the training data', 'unit': unit}


def frame_in_words(spec: TaskSpec, meta: Mapping[str, Any]) -> str:
    """``'x right, y up, z towards the viewer'``, or where the axes of predicted normals point instead."""
    return ', '.join(f'{axis} {way}' for axis, way in zip('xyz', learned_frame(meta, spec.key)))


def save_map(spec: TaskSpec, values: np.ndarray, stem: Path) -> Path:
    """Write a map of :func:`as_map` in the format that :func:`describe` tells; ``stem`` has no suffix."""
    if spec.kind in ('classes', 'binary', 'depth'):
        if spec.kind == 'binary':
            values = np.round(values * 255).astype(np.uint8)
        elif spec.kind == 'depth':
            values = np.round(np.clip(values * MILLIMETRES, 0, _FARTHEST)).astype(np.uint16)
        return save_image(values, stem.with_name(f'{stem.name}.png'))
    path = stem.with_name(f'{stem.name}.npy')
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, 'wb') as stream:
        np.save(stream, values)
    return path


class PredictionFolder:
    """Collects what is predicted below one folder; a context manager, which writes the JSON at the end.

    ``panels/<name>.png``, ``<task>/<name>.png`` or ``.npy``, for videos ``<name>.mp4`` (or ``.avi``), and
    ``predictions.json``. Files of earlier calls with the same names are replaced; others stay, which is told.

    Args:
        root: The folder; made if it does not exist.
        meta: Meta information of the dataset the model was trained on.
        about: Further entries of the JSON.
        raw: Whether to write raw predictions.
        frames: Whether to write panels and raw predictions of the frames of videos too.

    Raises:
        UserOSError: If ``root`` is a file.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        meta: Mapping[str, Any],
        about: Mapping[str, Any],
        raw: bool = True,
        frames: bool = False,
    ) -> None:
        self.root = path_to_write(root, 'out_dir')
        if self.root.exists() and not self.root.is_dir():
            raise UserOSError(f'out_dir {root} is a file; give a folder')
        self.root.mkdir(parents=True, exist_ok=True)
        self.raw = raw
        self.frames = frames
        self.skipped: list[tuple[str, str]] = []
        self._meta = meta
        self._about = dict(about)
        self._tasks: dict[str, dict[str, Any]] = {}
        self._images: list[dict[str, Any]] = []
        self._videos: dict[str, VideoFile] = {}
        self._written: set[Path] = set()
        self._again = (self.root / INDEX).exists()

    def __enter__(self) -> PredictionFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        content = dict(
            version=VERSION,
            **self._about,
            tasks=self._tasks,
            images=self._images,
            videos=[str(video.path.relative_to(self.root)) for video in self._videos.values() if video.path],
            skipped=[dict(source=source, reason=reason) for source, reason in self.skipped],
        )
        try:
            write_atomically((json.dumps(content, indent=1) + '\n').encode(), self.root / INDEX)
        finally:
            for video in self._videos.values():
                video.close()
        written = {*self._written, *self.outputs()}
        places = [self.root] if self._again else self.outputs()
        note = note_of_others((path for place in places for path in place.rglob('*')), written)
        if note:
            print_log(note, 'current', logging.WARNING)

    def wants_maps(self, entry: Entry) -> bool:
        """Whether raw predictions of an entry are written."""
        return self.raw and (self.frames or entry.video is None)

    def add(self, entry: Entry, maps: Mapping[str, np.ndarray], panel: np.ndarray | None) -> None:
        """Write what belongs to one picture.

        Args:
            entry: The picture.
            maps: Task -> map of :func:`as_map`.
            panel: RGB picture of all tasks, None for none.
        """
        files = {}
        if panel is not None and entry.video is not None:
            stem = self.root / entry.video.name
            self._videos.setdefault(entry.video.name, VideoFile(stem, entry.video.fps)).add(panel)
        if panel is not None and (self.frames or entry.video is None):
            files[PANELS] = save_image(panel, self.root / PANELS / f'{entry.name}.png')
        if self.wants_maps(entry):
            for task, values in maps.items():
                spec = get_task_spec(task)
                self._tasks.setdefault(task, describe(spec, self._meta))
                files[task] = save_map(spec, values, self.root / task / entry.name)
        self._written.update(files.values())
        if files:
            height, width = next(iter(maps.values())).shape[:2]
            paths = {name: path.relative_to(self.root).as_posix() for name, path in files.items()}
            self._images.append(dict(source=entry.source, height=height, width=width, files=paths))

    def outputs(self) -> Sequence[Path]:
        """The folders and videos that were written, the JSON last."""
        folders = dict.fromkeys(name for image in self._images for name in image['files'])
        videos = [video.path for video in self._videos.values() if video.path]
        return [*(self.root / name for name in folders), *videos, self.root / INDEX]
