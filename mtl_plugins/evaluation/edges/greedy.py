"""One-to-one matching of edge pixels within a tolerance: greedy, nearest pairs first."""

from functools import lru_cache

import numpy as np


def tolerance(shape: tuple[int, int], max_dist: float) -> float:
    """Return the matching distance in pixels: ``max_dist`` times the diagonal of an image of ``shape`` (H, W)."""
    return max_dist * float(np.hypot(*shape))


@lru_cache(maxsize=64)
def offsets_within(radius: float) -> tuple[tuple[int, int], ...]:
    """Return all integer offsets (dy, dx) of length <= ``radius``, nearest first, ties in a fixed order."""
    reach = int(radius)
    square = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    limit = radius * radius * (1 + 1e-12)
    inside = [(dy * dy + dx * dx, dy, dx) for dy, dx in square if dy * dy + dx * dx <= limit]
    return tuple((dy, dx) for _, dy, dx in sorted(inside))


class Frame:
    """Flat indices of the pixels of a map with a margin of ``int(radius)`` pixels around it.

    In them an offset (dy, dx) within the radius is the addition of one number, and never leaves the array.

    Args:
        shape: Size (H, W) of the maps.
        radius: Largest distance in pixels.
    """

    def __init__(self, shape: tuple[int, int], radius: float) -> None:
        self.margin = int(radius)
        self.width = shape[1] + 2 * self.margin
        self.steps = [dy * self.width + dx for dy, dx in offsets_within(radius)]

    def framed(self, edges: np.ndarray) -> np.ndarray:
        """Return the map with its margin, flat."""
        return np.pad(edges, self.margin).ravel()

    def coordinates(self, flat: np.ndarray) -> np.ndarray:
        """Return the (y, x) of flat indices as an array ``(N, 2)``."""
        return np.stack(np.divmod(flat, self.width), axis=1) - self.margin


def as_maps(pred: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both as boolean maps.

    Raises:
        ValueError: If they are not two maps (H, W) of one shape.
    """
    pred, target = np.asarray(pred, dtype=bool), np.asarray(target, dtype=bool)
    if pred.shape != target.shape or pred.ndim != 2:
        raise ValueError(f'pred and target must be maps (H, W) of one shape, but got {pred.shape} and {target.shape}')
    return pred, target


def pair_greedily(frame: Frame, pred: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat indices of the pixels paired by :func:`match_edges`, in ``pred`` and in ``target``."""
    free = frame.framed(target)
    left = np.flatnonzero(frame.framed(pred))
    sources, partners = [left[:0]], [left[:0]]
    for step in frame.steps:
        if not left.size:
            break
        there = left + step
        hit = free[there]
        if hit.any():
            sources.append(left[hit])
            partners.append(there[hit])
            free[there[hit]] = False
            left = left[~hit]
    return np.concatenate(sources), np.concatenate(partners)


def match_edges(pred: np.ndarray, target: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Pair edge pixels of two maps one to one, at most ``radius`` pixels apart.

    Greedy, nearest pairs first: for each integer offset by increasing length, all still free pixels of ``pred`` are
    paired with the still free pixels of ``target`` at that offset. A fixed offset never sends two pixels to one, so all
    pairs of an offset can be made at once. The number of pairs is at most, and on thin edge maps close to, that of
    :func:`mtl_plugins.evaluation.edges.count_exact_matches`; it is never less than half of it.

    Args:
        pred: Boolean map ``(H, W)``.
        target: Boolean map of the same shape.
        radius: Largest distance in pixels.

    Returns:
        Two int arrays ``(N, 2)``: the (y, x) of the paired pixels in ``pred``, and of their partners in ``target``.

    Raises:
        ValueError: If the shapes differ.
    """
    pred, target = as_maps(pred, target)
    frame = Frame(pred.shape, radius)
    sources, partners = pair_greedily(frame, pred, target)
    return frame.coordinates(sources), frame.coordinates(partners)


def count_matches(pred: np.ndarray, target: np.ndarray, radius: float) -> int:
    """Return how many pixels :func:`match_edges` pairs."""
    return len(match_edges(pred, target, radius)[0])
