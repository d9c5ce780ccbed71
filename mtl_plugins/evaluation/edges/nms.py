"""Non-maximum suppression of edge probabilities."""

import numpy as np
from scipy.ndimage import correlate1d

FILTER_RADIUS = 4
MULTIPLIER = 1.01
BORDER = 5


def edge_normals(score: np.ndarray) -> np.ndarray:
    """Return the direction across the edge at each pixel.

    The map is smoothed with a triangle filter of radius 4; the ratio of its second derivatives gives the direction
    (Dollar and Zitnick, 2015). Where nothing changes along an exactly horizontal edge the formula gives 0, which is the
    direction along it.

    Args:
        score: Float map ``(H, W)``, both sides at least 2.

    Returns:
        Float64 array ``(H, W)``, angle from the x axis (to the right) towards the y axis (down), in [0, pi).
    """
    ramp = np.arange(1.0, FILTER_RADIUS + 1)
    triangle = np.concatenate([ramp, [FILTER_RADIUS + 1.0], ramp[::-1]]) / (FILTER_RADIUS + 1) ** 2
    smooth = correlate1d(correlate1d(score.astype(np.float64), triangle, axis=0), triangle, axis=1)
    dy, dx = np.gradient(smooth)
    dxy, dxx = np.gradient(dx)
    dyy = np.gradient(dy, axis=0)
    return np.mod(np.arctan(dyy * np.sign(-dxy) / (dxx + 1e-5)), np.pi)


def suppress_non_maxima(score: np.ndarray) -> np.ndarray:
    """Keep the ridges of an edge map, as the released readers for PASCAL-Context and NYUD-v2 predictions do.

    A pixel becomes 0 if 1.01 times its score is below the (bilinearly interpolated) score one pixel further in either
    direction across the edge, see :func:`edge_normals`. Then scores fade linearly to 0 over the 5 pixels along each
    border.

    Args:
        score: Float map ``(H, W)``, >= 0.

    Returns:
        Float64 map of the same shape. A map with a side of one pixel, which has no directions, only fades.
    """
    height, width = score.shape
    kept = score.astype(np.float64)
    if min(height, width) >= 2:
        angle = edge_normals(score)
        y, x = np.nonzero(kept > 0)
        across_y, across_x = np.sin(angle[y, x]), np.cos(angle[y, x])
        strongest = np.maximum(
            _interpolate(kept, y + across_y, x + across_x), _interpolate(kept, y - across_y, x - across_x)
        )
        weak = MULTIPLIER * kept[y, x] < strongest
        kept[y[weak], x[weak]] = 0
    reach = min(BORDER, width // 2, height // 2)
    return kept * _fade(height, reach)[:, None] * _fade(width, reach)


def _interpolate(values: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the values at points, bilinearly; points outside are moved to the border."""
    y = np.clip(y, 0, values.shape[0] - 1.001)
    x = np.clip(x, 0, values.shape[1] - 1.001)
    top, left = y.astype(np.intp), x.astype(np.intp)
    y, x = y - top, x - left
    upper = values[top, left] * (1 - x) + values[top, left + 1] * x
    lower = values[top + 1, left] * (1 - x) + values[top + 1, left + 1] * x
    return upper * (1 - y) + lower * y


def _fade(length: int, reach: int) -> np.ndarray:
    """Return the factors along one side: 0 at both ends, 1 from ``reach`` pixels inwards."""
    place = np.arange(length)
    return np.minimum(np.minimum(place, place[::-1]) / max(reach, 1), 1.0) if reach else np.ones(length)
