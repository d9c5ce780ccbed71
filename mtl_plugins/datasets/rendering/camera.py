"""The pinhole camera."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .shapes import Vec3


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along its own -z axis; x of the camera is to the right, y is up.

    Args:
        position: World coordinates in metres.
        yaw: Turn to the left in radians; at 0 the camera looks along the world's -z.
        pitch: Upward tilt in radians.
        roll: Turn about the viewing axis in radians.
        field_of_view: Angle in radians that a square image sees; other shapes see the same area.
    """

    position: Vec3
    yaw: float
    pitch: float
    roll: float
    field_of_view: float

    @cached_property
    def rotation(self) -> np.ndarray:
        """``(3, 3)``; its columns are the camera's axes in world coordinates."""
        cy, sy = math.cos(self.yaw), math.sin(self.yaw)
        cp, sp = math.cos(self.pitch), math.sin(self.pitch)
        cr, sr = math.cos(self.roll), math.sin(self.roll)
        yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return yaw @ pitch @ roll

    def focal_length(self, size: tuple[int, int]) -> float:
        """Focal length in pixels of an image of ``size`` (height, width)."""
        return 0.5 * math.sqrt(size[0] * size[1]) / math.tan(self.field_of_view / 2)

    def rays(self, size: tuple[int, int]) -> np.ndarray:
        """World directions through the pixel centres, ``(3, H, W)``, scaled such that the ray parameter is depth."""
        focal = self.focal_length(size)
        x = (np.arange(size[1]) + 0.5 - size[1] / 2) / focal
        y = (size[0] / 2 - np.arange(size[0]) - 0.5) / focal
        right, up, back = self.rotation.T[:, :, None, None]
        return right * x[None, None, :] + up * y[None, :, None] - back

    def pixel_box(self, corners: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice] | None:
        """Rows and columns that may see a solid with the given ``(3, 8)`` corners; None if it is out of view."""
        x, y, z = self.rotation.T @ (corners - np.array(self.position)[:, None])
        depth = -z
        if depth.max() <= 0:
            return None
        if depth.min() < 0.05:  # reaches behind the camera: its projection is not the hull of its corners
            return slice(0, size[0]), slice(0, size[1])
        focal = self.focal_length(size)
        columns = size[1] / 2 + focal * x / depth
        rows = size[0] / 2 - focal * y / depth
        box = []
        for values, limit in ((rows, size[0]), (columns, size[1])):
            low, high = max(0, math.floor(values.min() - 0.5)), min(limit, math.ceil(values.max() + 0.5))
            if low >= high:
                return None
            box.append(slice(low, high))
        return box[0], box[1]
