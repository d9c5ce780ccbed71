"""Materials with solid textures: colour as a function of the position in an object's own frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .draw import Colour, Draw
from .shapes import Vec3

PLAIN, CHECKER, STRIPES, NOISE = range(4)
_OCTAVES = ((1.0, 0.65), (2.7, 0.35))  # frequency and weight of the value noise


@dataclass(frozen=True)
class Material:
    """How a surface looks.

    Args:
        texture: One of ``PLAIN``, ``CHECKER``, ``STRIPES`` and ``NOISE``.
        first: Linear RGB albedo.
        second: The other albedo of the texture.
        scale: Size of a texture cell in metres.
        offset: Shift of the texture, in cells.
        axis: Direction in which stripes alternate.
        emission: Light of its own, as a multiple of the albedo.
        gloss: Strength of the highlight.
    """

    texture: int
    first: Colour
    second: Colour
    scale: float = 0.3
    offset: Vec3 = (0.0, 0.0, 0.0)
    axis: int = 0
    emission: float = 0.0
    gloss: float = 0.0


def plain(colour: Colour, emission: float = 0.0, gloss: float = 0.0) -> Material:
    """A material of one colour."""
    return Material(PLAIN, colour, colour, emission=emission, gloss=gloss)


def shade_of(colour: Colour, factor: float) -> Colour:
    """The colour made darker (or brighter) by a factor, at most 1 per channel."""
    return tuple(min(1.0, channel * factor) for channel in colour)


def textured(
    draw: Draw, first: Colour, second: Colour, textures: Sequence[int], scale: tuple[float, float]
) -> Material:
    """A random texture out of ``textures`` between two colours, with cells of a size from the range ``scale``."""
    offset = (draw.uniform(0, 1), draw.uniform(0, 1), draw.uniform(0, 1))
    return Material(
        draw.choice(textures), first, second, draw.uniform(*scale), offset, draw.choice((0, 1, 2)), 0.0, 0.0
    )


def albedo(materials: Sequence[Material], index: np.ndarray, local: np.ndarray) -> np.ndarray:
    """Colour at N points.

    Args:
        materials: All materials of the scene.
        index: ``(N,)``, the material of each point.
        local: ``(3, N)``, positions in the frames of the objects, in metres.

    Returns:
        ``(3, N)`` linear RGB.
    """
    texture = np.array([m.texture for m in materials])[index]
    scale = np.array([m.scale for m in materials], local.dtype)[index]
    offset = np.array([m.offset for m in materials], local.dtype).T[:, index]
    first, second = (
        np.array([getattr(m, name) for m in materials], local.dtype).T[:, index] for name in ('first', 'second')
    )
    cells = local / scale + offset
    mix = np.zeros_like(scale)
    at = np.flatnonzero(texture == CHECKER)
    mix[at] = np.floor(cells[:, at]).sum(0) % 2
    at = np.flatnonzero(texture == STRIPES)
    axis = np.array([m.axis for m in materials])[index[at]]
    mix[at] = np.floor(cells[axis, at]) % 2
    at = np.flatnonzero(texture == NOISE)
    mix[at] = value_noise(cells[:, at])
    return first + (second - first) * mix


def value_noise(cells: np.ndarray) -> np.ndarray:
    """Smooth noise in 0..1: random values at the points of a lattice, interpolated in between; two octaves.

    Args:
        cells: ``(3, N)`` positions in lattice units.
    """
    total = np.zeros(cells.shape[1], cells.dtype)
    for frequency, weight in _OCTAVES:
        scaled = cells * frequency
        base = np.floor(scaled)
        fraction = scaled - base
        blend = fraction * fraction * (3 - 2 * fraction)
        base = base.astype(np.int64)
        low, high = (
            _bilinear([[_hash(base[0] + i, base[1] + j, base[2] + k) for i in (0, 1)] for j in (0, 1)], blend)
            for k in (0, 1)
        )
        total += weight * (low + (high - low) * blend[2])
    # Averages crowd around one half: stretch them back.
    return np.clip((total - 0.5) * 1.8 + 0.5, 0, 1)


def _bilinear(values: list[list[np.ndarray]], blend: np.ndarray) -> np.ndarray:
    rows = [row[0] + (row[1] - row[0]) * blend[0] for row in values]
    return rows[0] + (rows[1] - rows[0]) * blend[1]


def _hash(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """A number in 0..1 per lattice point. Multiply-and-shift mixing in wrapping 32-bit integers."""
    mixed = (x * 0x9E3779B1 + y * 0x85EBCA77 + z * 0xC2B2AE3D).astype(np.uint32)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x2C1B3C6D)
    mixed ^= mixed >> np.uint32(12)
    mixed *= np.uint32(0x297A2D39)
    mixed ^= mixed >> np.uint32(15)
    return mixed.astype(np.float32) / np.float32(2**32)
