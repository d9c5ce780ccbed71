"""Normals and edges where a source has none: normals are fitted to depth, edges are the borders of labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt

_SAMPLES = 3
"""Samples of the window on each side of its centre: a fit looks at 7 x 7 pixels, however large the window is."""
_SURFACE = (0.05, 0.05)
"""Pixels belong to the surface of the centre if their depths differ by less than this share plus these metres."""
_ENOUGH = 1 / 3
"""Share of the window that must lie on that surface; else the normal is not known."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera, all in pixels.

    Args:
        fx: Focal length along the width.
        fy: Focal length along the height.
        cx: Column of the optical axis.
        cy: Row of the optical axis.
    """

    fx: float
    fy: float
    cx: float
    cy: float

    def scaled(self, factor: float) -> Camera:
        """The same camera for an image of ``factor`` times the size; pixel centres lie at whole numbers."""
        return Camera(
            self.fx * factor, self.fy * factor, (self.cx + 0.5) * factor - 0.5, (self.cy + 0.5) * factor - 0.5
        )

    def cropped(self, top: int, left: int) -> Camera:
        """The same camera for an image without its first rows and columns."""
        return Camera(self.fx, self.fy, self.cx - left, self.cy - top)


KINECT = Camera(518.857901, 519.469611, 325.582449, 253.736166)
"""Colour camera of NYU Depth v2 at 640 x 480, from the toolbox of the dataset (pixels counted from 1)."""


def fit_normals(depth: np.ndarray, camera: Camera, window: float = 0.03) -> np.ndarray:
    """Surface normals by a plane through the neighbourhood of each pixel.

    On a plane, 1 / depth is linear in the coordinates of the image: ``1/z = a x + b y + c`` with ``x = (u - cx) / fx``
    and y up. Ordinary least squares over the pixels of the window that lie on the surface of its centre give the
    normal ``(-a, -b, c)``, made unit length; it faces the camera. The error of a structured-light camera grows with
    the square of depth, so that of 1 / depth is about the same everywhere, as least squares want it.

    Args:
        depth: ``(H, W)`` metres along the viewing axis; 0 where not known.
        camera: The camera of ``depth``.
        window: Side of the window as a share of the width.

    Returns:
        ``(H, W, 3)`` float32 in our axes (x right, y up, z towards the viewer); zero where depth is not known or too
        little of the window lies on the same surface.
    """
    depth = np.asarray(depth, np.float32)
    height, width = depth.shape
    radius = max(1, round(window * width / 2))
    steps = np.unique(np.linspace(-radius, radius, 2 * _SAMPLES + 1).round().astype(int))
    known = depth > 0
    inverse = np.divide(1, depth, out=np.zeros_like(depth), where=known)
    padded = np.pad(depth, radius), np.pad(inverse, radius)
    share, metres = _SURFACE
    tolerance = share * depth + metres
    count, sx, sy, sw, sxx, sxy, syy, sxw, syw = np.zeros((9, height, width), np.float32)
    for dy in steps:
        for dx in steps:
            part = slice(radius + dy, radius + dy + height), slice(radius + dx, radius + dx + width)
            near = (padded[0][part] > 0) & (np.abs(padded[0][part] - depth) < tolerance)
            weight = near.astype(np.float32)
            # Measured from the centre of the window, in pixels: small numbers that float32 holds exactly.
            difference = (padded[1][part] - inverse) * weight
            count += weight
            sx += dx * weight
            sy -= dy * weight
            sxx += dx * dx * weight
            sxy -= dx * dy * weight
            syy += dy * dy * weight
            sw += difference
            sxw += dx * difference
            syw -= dy * difference
    count = np.maximum(count, 1)
    mx, my, mw = sx / count, sy / count, sw / count
    cxx, cxy, cyy = sxx / count - mx * mx, sxy / count - mx * my, syy / count - my * my
    cxw, cyw = sxw / count - mx * mw, syw / count - my * mw
    determinant = cxx * cyy - cxy * cxy
    # A window whose pixels lie on one line says nothing about the slope across it.
    fitting = known & (count >= _ENOUGH * len(steps) ** 2) & (determinant > 0.01 * radius**4 / 9)
    safe = np.where(fitting, determinant, 1)
    a = (cxw * cyy - cyw * cxy) / safe * camera.fx
    b = (cyw * cxx - cxw * cxy) / safe * camera.fy
    x = (np.arange(width, dtype=np.float32) - camera.cx) / camera.fx
    y = -(np.arange(height, dtype=np.float32)[:, None] - camera.cy) / camera.fy
    # Slopes per pixel times offsets in pixels: the fitted value at the centre, then at the optical axis.
    centre = inverse + mw - a / camera.fx * mx - b / camera.fy * my
    c = centre - a * x - b * y
    normals = np.stack([-a, -b, c], -1)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.where(fitting[..., None], normals / np.maximum(length, 1e-12), 0).astype(np.float32)


def label_borders(labels: np.ndarray, gap: float = 0.018) -> np.ndarray:
    """Edges between regions of different labels.

    The labels of NYU Depth v2 leave thin strips between objects without a label; these are closed first, so that one
    border does not become two. A larger region without label is a region like any other: something else is there.

    Args:
        labels: ``(H, W)`` class ids; 0 stands for not labelled.
        gap: Widest strip that is closed, as a share of the width.

    Returns:
        ``(H, W)`` uint8: 1 on the pixels whose right or lower neighbour has another label, else 0.
    """
    unlabelled = labels == 0
    side = 2 * max(1, round(gap * labels.shape[1] / 2)) + 1
    core = np.ones((side, side), bool)
    wide = binary_dilation(binary_erosion(unlabelled, core, border_value=1), core)
    strips = unlabelled & ~wide
    closed = labels
    if strips.any() and not unlabelled.all():
        nearest = distance_transform_edt(unlabelled, return_distances=False, return_indices=True)
        closed = np.where(strips, labels[tuple(nearest)], labels)
    edges = np.zeros(labels.shape, np.uint8)
    edges[:, :-1] |= closed[:, :-1] != closed[:, 1:]
    edges[:-1] |= closed[:-1] != closed[1:]
    return edges
