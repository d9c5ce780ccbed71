"""The solids a room is made of: where a ray enters them, and what their surface is like at a point.

Points and directions are arrays ``(3, ...)`` of world coordinates in metres: x right, y up, z towards the viewer.
Rays start outside of every solid. ``intersect`` returns the ray parameter of the entry, ``inf`` for a miss.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

Vec3 = tuple[float, float, float]


@dataclass(frozen=True)
class Surface:
    """Surface properties at N points.

    Args:
        normals: Outward unit normals, ``(3, N)``.
        local: Coordinates in the frame of the solid in metres, ``(3, N)``; textures are attached to them.
        curvature: Principal curvatures in 1/m, larger magnitude first, ``(2, N)``; positive where convex.
    """

    normals: np.ndarray
    local: np.ndarray
    curvature: np.ndarray


class Shape(Protocol):
    """What the ray caster asks of a solid."""

    def intersect(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Ray parameter of the entry into the solid, ``inf`` where the ray misses it."""

    def surface(self, points: np.ndarray) -> Surface:
        """Properties at ``points`` on the surface, ``(3, N)``."""

    def corners(self) -> np.ndarray:
        """Corners of a box around the solid, ``(3, 8)``."""


_SIGNS = np.array(np.meshgrid((-1, 1), (-1, 1), (-1, 1), indexing='ij'), float).reshape(3, 8)


def _constant(values: tuple[float, float], n: int) -> np.ndarray:
    return np.broadcast_to(np.array(values)[:, None], (2, n))


def _entry(b: np.ndarray, a: np.ndarray, c: np.ndarray | float) -> np.ndarray:
    """Smaller root of ``a t^2 + 2 b t + c``, ``inf`` where there is none or it is not positive."""
    discriminant = b * b - a * c
    t = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
    return np.where((discriminant > 0) & (t > 0), t, np.inf)


@dataclass(frozen=True)
class Face:
    """One side of the room box, seen from inside: the plane where coordinate ``axis`` equals ``offset``.

    ``inward`` is the sign of the normal along the axis. All six faces are intersected together, see ``raycast.py``.
    """

    axis: int
    offset: float
    inward: int

    def surface(self, points: np.ndarray) -> Surface:
        """See :class:`Shape`."""
        normals = np.zeros_like(points)
        normals[self.axis] = self.inward
        return Surface(normals, points, _constant((0, 0), points.shape[1]))


@dataclass(frozen=True)
class Box:
    """A box with half sizes ``half``, turned by ``yaw`` (radians) about the vertical axis through its centre."""

    centre: Vec3
    half: Vec3
    yaw: float = 0.0

    @cached_property
    def _axes(self) -> np.ndarray:
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])  # rows: the box's axes in world coordinates

    def intersect(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """See :class:`Shape`; the slab method."""
        o = self._axes @ (origin - self.centre)
        cos, sin = self._axes[0, 0], self._axes[2, 0]
        d = (cos * directions[0] - sin * directions[2], directions[1], sin * directions[0] + cos * directions[2])
        near, far = None, None
        for axis in range(3):
            inverse = 1 / np.where(d[axis] == 0, 1e-12, d[axis])
            middle, reach = -o[axis] * inverse, self.half[axis] * np.abs(inverse)
            near = middle - reach if near is None else np.maximum(near, middle - reach)
            far = middle + reach if far is None else np.minimum(far, middle + reach)
        return np.where((near < far) & (near > 0), near, np.inf)

    def surface(self, points: np.ndarray) -> Surface:
        """See :class:`Shape`; a point belongs to the face whose plane it is closest to."""
        local = self._axes @ (points - np.array(self.centre)[:, None])
        axis = np.argmin(np.array(self.half)[:, None] - np.abs(local), axis=0)
        signs = np.sign(local[axis, np.arange(axis.size)])
        return Surface(self._axes[axis].T * signs, local, _constant((0, 0), axis.size))

    def corners(self) -> np.ndarray:
        """See :class:`Shape`."""
        return np.array(self.centre)[:, None] + self._axes.T @ (_SIGNS * np.array(self.half)[:, None])


@dataclass(frozen=True)
class Sphere:
    """A ball."""

    centre: Vec3
    radius: float

    def intersect(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """See :class:`Shape`."""
        o = origin - self.centre
        b = np.tensordot(o, directions, 1)
        return _entry(b, (directions * directions).sum(0), o @ o - self.radius**2)

    def surface(self, points: np.ndarray) -> Surface:
        """See :class:`Shape`."""
        local = points - np.array(self.centre)[:, None]
        normals = local / np.linalg.norm(local, axis=0)
        return Surface(normals, local, _constant((1 / self.radius, 1 / self.radius), local.shape[1]))

    def corners(self) -> np.ndarray:
        """See :class:`Shape`."""
        return np.array(self.centre)[:, None] + _SIGNS * self.radius


@dataclass(frozen=True)
class _Round:
    """What cylinders and capsules share: an axis from ``start`` to ``end`` and a radius."""

    start: Vec3
    end: Vec3
    radius: float

    @cached_property
    def length(self) -> float:
        return math.dist(self.start, self.end)

    @cached_property
    def _axes(self) -> np.ndarray:
        """Rows: two directions across the axis around the axis itself (the local y)."""
        along = (np.array(self.end) - self.start) / self.length
        other = np.array([1.0, 0, 0]) if abs(along[0]) < 0.7 else np.array([0, 0, 1.0])
        across = np.cross(along, other)
        across /= np.linalg.norm(across)
        return np.stack([across, along, np.cross(across, along)])

    def _side(self, origin: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, ...]:
        """Entry into the infinite cylinder, and height along the axis: of the entry, the origin, per unit of t."""
        along, o = self._axes[1], origin - self.start
        height, slope = along @ o, np.tensordot(along, directions, 1)
        a = np.maximum((directions * directions).sum(0) - slope * slope, 1e-12)
        b = np.tensordot(o, directions, 1) - slope * height
        t = _entry(b, a, o @ o - height**2 - self.radius**2)
        with np.errstate(invalid='ignore'):
            return t, height + t * slope, height, slope

    def corners(self) -> np.ndarray:
        """See :class:`Shape`."""
        middle, half = (np.array(self.start) + self.end) / 2, np.abs(np.array(self.end) - self.start) / 2
        return middle[:, None] + _SIGNS * (half + self.radius)[:, None]


@dataclass(frozen=True)
class Cylinder(_Round):
    """A cylinder with flat ends."""

    def intersect(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """See :class:`Shape`; at most one of the two ends can be entered through from where the ray starts."""
        t, at, height, slope = self._side(origin, directions)
        t = np.where((at >= 0) & (at <= self.length), t, np.inf)
        if 0 <= height <= self.length:
            return t
        end = 0.0 if height < 0 else self.length
        cap = (end - height) / np.where(slope == 0, 1e-12, slope)
        o = (origin - self.start)[(...,) + (None,) * cap.ndim]
        inside = ((o + cap * directions) ** 2).sum(0) - end**2 <= self.radius**2
        return np.where(inside & (cap > 0), cap, t)

    def surface(self, points: np.ndarray) -> Surface:
        """See :class:`Shape`; a point belongs to the end or the side, whichever is closer."""
        local = self._axes @ (points - np.array(self.start)[:, None])
        distance = np.hypot(local[0], local[2])
        over = np.abs(local[1] - self.length / 2) - self.length / 2
        on_end = np.abs(over) < np.abs(distance - self.radius)
        turned = np.where(on_end, 0, local / np.maximum(distance, 1e-12))
        turned[1] = np.where(on_end, np.sign(local[1] - self.length / 2), 0)
        curvature = np.stack([np.where(on_end, 0, 1 / self.radius), np.zeros_like(distance)])
        return Surface(self._axes.T @ turned, local, curvature)


@dataclass(frozen=True)
class Capsule(_Round):
    """A cylinder with a half ball at either end."""

    def intersect(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """See :class:`Shape`; where the ray enters the infinite cylinder tells which of the balls it can meet."""
        t, at, _, _ = self._side(origin, directions)
        first, last = origin - self.start, origin - self.end
        a = (directions * directions).sum(0)
        low, high = (_entry(np.tensordot(o, directions, 1), a, o @ o - self.radius**2) for o in (first, last))
        on_side = (at >= 0) & (at <= self.length)
        return np.where(on_side, t, np.minimum(low, high))

    def surface(self, points: np.ndarray) -> Surface:
        """See :class:`Shape`."""
        local = self._axes @ (points - np.array(self.start)[:, None])
        at = np.clip(local[1], 0, self.length)
        out = np.stack([local[0], local[1] - at, local[2]])
        normals = self._axes.T @ (out / np.linalg.norm(out, axis=0))
        ball = (local[1] < 0) | (local[1] > self.length)
        first = np.full(at.size, 1 / self.radius)
        return Surface(normals, local, np.stack([first, np.where(ball, first, 0)]))
