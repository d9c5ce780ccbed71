"""Analytic ray casting of a scene."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .camera import Camera
from .shapes import Face, Shape


@dataclass(frozen=True)
class Hits:
    """What the rays of an image of H x W pixels meet; N = H * W points in row-major order.

    Args:
        size: ``(H, W)``.
        depth: ``(N,)`` distance along the viewing axis in metres.
        shape: ``(N,)`` index of the shape.
        points: ``(3, N)`` world coordinates.
        normals: ``(3, N)`` unit normals in world coordinates.
        local: ``(3, N)`` coordinates in the frame of the shape.
        curvature: ``(2, N)`` principal curvatures in 1/m.
    """

    size: tuple[int, int]
    depth: np.ndarray
    shape: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    local: np.ndarray
    curvature: np.ndarray


def cast(camera: Camera, shapes: Sequence[Face | Shape], size: tuple[int, int]) -> Hits:
    """Cast one ray through the centre of each pixel.

    Args:
        camera: Stands inside the room and outside of all other shapes.
        shapes: The six faces of the room first, in the order -x, +x, -y, +y, -z, +z; then the solids.
        size: ``(H, W)`` of the image.
    """
    origin, rays = np.array(camera.position), camera.rays(size)
    depth, index = _room(origin, rays, shapes[:6])
    for number, shape in enumerate(shapes[6:], 6):
        box = camera.pixel_box(shape.corners(), size)
        if box is None:
            continue
        t = shape.intersect(origin, rays[:, box[0], box[1]])
        nearer = t < depth[box]
        np.copyto(depth[box], t, where=nearer)
        np.copyto(index[box], number, where=nearer)
    return _surfaces(shapes, size, depth.ravel(), index.ravel(), origin, rays.reshape(3, -1))


def _room(origin: np.ndarray, rays: np.ndarray, faces: Sequence[Face]) -> tuple[np.ndarray, np.ndarray]:
    depth = np.full(rays.shape[1:], np.inf)
    index = np.zeros(rays.shape[1:], np.int32)
    for axis in range(3):
        ahead = rays[axis] > 0
        # The ray leaves through the face it runs towards; parallel rays never reach either.
        gap = np.where(ahead, faces[2 * axis + 1].offset, faces[2 * axis].offset) - origin[axis]
        t = gap / np.where(rays[axis] == 0, -1e-12, rays[axis])
        nearer = t < depth
        np.copyto(depth, t, where=nearer)
        np.copyto(index, 2 * axis + ahead, where=nearer, casting='unsafe')
    return depth, index


def _surfaces(shapes, size, depth, index, origin, rays) -> Hits:
    points = origin[:, None] + rays * depth
    normals, local, curvature = np.empty_like(points), np.empty_like(points), np.empty((2, depth.size))
    order = np.argsort(index, kind='stable')
    present, starts = np.unique(index[order], return_index=True)
    for number, at in zip(present, np.split(order, starts[1:])):
        surface = shapes[number].surface(points[:, at])
        normals[:, at], local[:, at], curvature[:, at] = surface.normals, surface.local, surface.curvature
    return Hits(size, depth, index, points, normals, local, curvature)
