"""Reads the image and the targets of one sample of Taskonomy."""

import os
from typing import Any

import numpy as np
from PIL import Image

from ..files import NormalAxes, SampleReader, UnreadableFileError, read_colours, read_indices, read_rgb
from ..files.sizes import check_aspect
from ..transforms.fields import sample_name
from ..transforms.resizing import resize_nearest
from .decoding import NO_DATA, NORMAL_AXES, PICTURE_TASKS, decode, dilate, own_holes, read_codes
from .layout import Z_BUFFER

_MEMORY = 'stored_codes'


class TaskonomyReader(SampleReader):
    """Reads and decodes the files of a sample.

    A target is not labelled where the geometry is not known: where the file of ``mask_valid`` is 0, else, without such
    a file, where ``depth_zbuffer`` is 65535. Depth, normals and curvature have a code for "not known" of their own
    (65535; 128 in all channels; 0 in both), which counts too. All of this is widened by a square of 5 pixels, as
    Omnidata does. Texture edges, 2D keypoints and 2D segments are computed from the picture: labelled everywhere.

    Args:
        masks: False labels every pixel, as the released STGU program does: unknown depth is the target 1.0, and normals
            are the quantised vectors.
        size: Resize the image (bilinearly, as Pillow does) and the stored codes to this (height, width) before they are
            decoded. None keeps the size of the files.
        axes: Axes of the stored normals, by default :data:`~.decoding.NORMAL_AXES`.
        resample: How codes are resized: ``'bilinear'``, as the released program does; a pixel that an unlabelled one
            has a share in is not labelled either. Or ``'nearest'``, which mixes nothing and takes half the time.
    """

    def __init__(
        self,
        masks: bool = True,
        size: tuple[int, int] | None = None,
        axes: NormalAxes | None = None,
        resample: str = 'bilinear',
    ) -> None:
        self.resample = resample
        self.masks = masks
        self.size = size
        self.axes = axes or NormalAxes(NORMAL_AXES)

    def read_image(self, results: dict[str, Any]) -> np.ndarray:
        """The image: ``(H, W, 3)`` uint8, BGR."""
        image = read_rgb(results['img_path'])
        results.setdefault(_MEMORY, {})['image'] = image.shape[:2]
        return self._resized(image)

    def read_target(self, task: str, results: dict[str, Any]) -> np.ndarray:
        """A target: ``(H, W)`` or ``(H, W, C)`` float32, see :func:`~.decoding.decode`."""
        codes = self._codes(task, results['files'][task], results)
        size = results.get(_MEMORY, {}).get('image')
        if size is not None:  # before anything is resized
            owner = f"{sample_name(results)}: the target of task '{task}'"
            check_aspect(codes.shape[:2], size, owner, results['files'][task], results['img_path'])
        valid = self._valid(task, codes, results) if self.masks else None
        if task == next(reversed(results['files'])):
            results.pop(_MEMORY, None)
        if self.size is not None and codes.shape[:2] != self.size:
            codes, valid = self._resampled(codes, valid)
        return decode(task, codes, valid, self.axes)

    def _resampled(self, codes: np.ndarray, valid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        if self.resample == 'nearest':
            return resize_nearest(codes, self.size), None if valid is None else resize_nearest(valid, self.size)
        if valid is not None:
            valid = self._resized(np.where(valid, np.float32(0), np.float32(1))) == 0
        return self._resized(codes), valid

    def _codes(self, task: str, path: str, results: dict[str, Any]) -> np.ndarray:
        if not self.masks or task != Z_BUFFER:
            return read_codes(task, path)
        # Needed as target and as mask.
        memory = results.setdefault(_MEMORY, {})
        if Z_BUFFER not in memory:
            memory[Z_BUFFER] = read_codes(task, path)
        return memory[Z_BUFFER]

    def _valid(self, task: str, codes: np.ndarray, results: dict[str, Any]) -> np.ndarray:
        holes = np.zeros(codes.shape[:2], bool)
        if task not in PICTURE_TASKS:
            for more in (own_holes(task, codes), self._holes(results)):
                if more is None:
                    continue
                if more.shape != holes.shape:
                    raise UnreadableFileError(
                        f'{results["files"][task]} is {holes.shape[0]} x {holes.shape[1]}, but the mask of valid '
                        f'pixels ({results.get("mask_path") or results.get("zbuffer_path")}) is {more.shape[0]} x '
                        f'{more.shape[1]}; tools/datasets/verify.py lists all damaged files'
                    )
                holes |= more
        return ~dilate(holes) if holes.any() else ~holes

    def _holes(self, results: dict[str, Any]) -> np.ndarray | None:
        """Pixels of the sample without geometry, None if no file tells; read once per sample."""
        memory = results.setdefault(_MEMORY, {})
        if 'holes' not in memory:
            if results.get('mask_path'):
                memory['holes'] = read_mask(results['mask_path']) == 0
            elif results.get('zbuffer_path'):
                memory['holes'] = self._codes(Z_BUFFER, results['zbuffer_path'], results) == NO_DATA
            else:
                memory['holes'] = None
        return memory['holes']

    def _resized(self, array: np.ndarray) -> np.ndarray:
        if self.size is None or array.shape[:2] == self.size:
            return array
        image = Image.fromarray(np.ascontiguousarray(array))
        return np.array(image.resize(self.size[::-1], Image.Resampling.BILINEAR))


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """A mask of valid pixels ``(H, W)`` uint8, stored as grey values or as colours."""
    try:
        return read_indices(path)
    except UnreadableFileError as first:
        try:
            return read_colours(path, alpha=True).max(axis=-1)
        except UnreadableFileError:
            raise first from None
