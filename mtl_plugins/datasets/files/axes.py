"""Which way the channels of stored normals point, where nobody has written it down: measured against depth."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from mtl_plugins.errors import UserError

AXES = ('x', 'y', 'z')
OURS = AXES
"""x right, y up, z towards the viewer."""
_NAMES = {'x': 'right', '-x': 'left', 'y': 'up', '-y': 'down', 'z': 'towards the viewer', '-z': 'away from the viewer'}
GENUINE_AXES = {'taskonomy': ('x', '-y', '-z')}
"""Dataset -> what the channels of its stored normals hold, where genuine files have shown it."""
_STEP = 0.02
"""Neighbours whose depths differ by more than this share lie on different surfaces."""


class NormalAxes:
    """A change from the axes of stored normals to ours (x right, y up, z towards the viewer).

    Args:
        axes: What each of the three channels in the file holds: ``('x', '-y', 'z')`` says that the second channel
            points down.

    Raises:
        ValueError: If ``axes`` is not x, y and z in some order, each with or without a minus.
    """

    def __init__(self, axes: Sequence[str] = OURS) -> None:
        self.axes = tuple(axes)
        if isinstance(axes, str) or sorted(axis.removeprefix('-') for axis in self.axes) != list(AXES):
            raise UserError(
                "normal_axes must name what the three channels of the file hold, for example ('x', '-y', 'z'), "
                f'but got {axes!r}'
            )
        names = [axis.removeprefix('-') for axis in self.axes]
        self.channels = [names.index(axis) for axis in AXES]
        self.signs = np.array([-1 if self.axes[channel][0] == '-' else 1 for channel in self.channels], np.float32)

    def to_ours(self, normals: np.ndarray) -> np.ndarray:
        """``(..., 3)`` normals in our axes; the same array if these are ours already."""
        # 0 is added so that zero vectors stay free of negative zeros.
        return normals if self.axes == OURS else normals[..., self.channels] * self.signs + 0

    def from_ours(self, normals: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`to_ours`."""
        if self.axes == OURS:
            return normals
        stored = np.empty_like(normals)
        stored[..., self.channels] = normals * self.signs + 0
        return stored

    def describe(self) -> str:
        """In words: ``'x right, y up, z towards the viewer'``."""
        return ', '.join(f'channel {number} {_NAMES[axis]}' for number, axis in enumerate(self.axes))

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.axes})'


def learned_frame(meta: Mapping[str, Any], task: str) -> tuple[str, str, str]:
    """Which way the three channels of a task's normals point, in words.

    They are ours, unless the dataset read its files with other axes than genuine files have.

    Args:
        meta: Meta information of the dataset the model was trained on, see
            :meth:`~mtl_plugins.datasets.files.FilesDataset.conventions`.
        task: Name of the task.

    Returns:
        For example ``('right', 'up', 'towards the viewer')``.
    """
    for name, by_task in (meta.get('conventions') or {}).items():
        read = (by_task.get(task) or {}).get('normal_axes')
        if read and name in GENUINE_AXES:
            # Row by row: what our x, y and z have become.
            became = NormalAxes(read).to_ours(NormalAxes(GENUINE_AXES[name]).from_ours(np.eye(3))).T
            if (became != np.eye(3)).any():
                axes = [('-' if row.sum() < 0 else '') + AXES[int(np.abs(row).argmax())] for row in became]
                return tuple(_NAMES[axis] for axis in axes)
    return tuple(_NAMES[axis] for axis in OURS)


def measure_axes(samples: Iterable[tuple[np.ndarray, np.ndarray]], focal: float) -> tuple[NormalAxes, float]:
    """Find the axes of stored normals by comparing them with normals computed from depth.

    Args:
        samples: Pairs of ``(H, W)`` depth along the viewing axis and ``(H, W, 3)`` stored normals.
        focal: Focal length of the camera in pixels; half or double the right one still gives the right axes.

    Returns:
        The axes, and the mean cosine between both kinds of normals (1: equal; below about 0.5 tells nothing).
    """
    products, count = np.zeros((3, 3)), 0
    for depth, stored in samples:
        computed = normals_from_depth(depth, focal)
        known = computed.any(-1) & np.asarray(stored).any(-1)
        products += np.einsum('ni,nj->ij', computed[known], stored[known].astype(np.float64))
        count += int(known.sum())
    # The best signed permutation: 6 orders, and for each channel the sign that agrees better.
    order = max(itertools.permutations(range(3)), key=lambda order: np.abs(products[list(order), range(3)]).sum())
    agreement = products[list(order), range(3)]
    axes = [('-' if value < 0 else '') + AXES[axis] for axis, value in zip(order, agreement)]
    return NormalAxes(axes), float(np.abs(agreement).sum() / max(count, 1))


def normals_from_depth(depth: np.ndarray, focal: float) -> np.ndarray:
    """Rough normals from a depth map, in our axes; zero at borders of surfaces and where depth is not known.

    Args:
        depth: ``(H, W)`` metres along the viewing axis.
        focal: Focal length in pixels.

    Returns:
        ``(H, W, 3)`` float64.
    """
    depth = np.nan_to_num(np.asarray(depth, np.float64), posinf=0, neginf=0)
    smooth = cv2.blur(depth, (5, 5))
    height, width = depth.shape
    right = (np.arange(width) - (width - 1) / 2) / focal
    up = -((np.arange(height) - (height - 1) / 2) / focal)
    points = np.stack([right[None] * smooth, up[:, None] * smooth, -smooth], -1)
    along, down = np.zeros_like(points), np.zeros_like(points)
    along[:, 1:-1], down[1:-1] = points[:, 2:] - points[:, :-2], points[2:] - points[:-2]
    normals = np.cross(down, along)
    normals[(normals * points).sum(-1) > 0] *= -1  # what is seen faces the viewer
    spread = cv2.dilate(depth, np.ones((7, 7))) - cv2.erode(depth, np.ones((7, 7)))
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    known = (length[..., 0] > 0) & (cv2.erode(depth, np.ones((7, 7))) > 0) & (spread < 7 * _STEP * depth)
    return np.where(known[..., None], normals / np.maximum(length, 1e-12), 0)
