"""A renderer of random rooms with exact targets, in NumPy; see :class:`mtl_plugins.datasets.RoomsDataset`."""

import numpy as np

from ..human_parts import HUMAN_PALETTE, HUMAN_PARTS
from .labels import CLASSES, PALETTE, UNLABELLED
from .scene import SPLITS, VERSION, Scene, sample_scene
from .shading import render_rgb
from .targets import CURVATURE_SCALE, TASKS, render_targets


def render_scene(scene: Scene, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Picture and targets of a scene.

    Args:
        scene: The scene.
        size: ``(H, W)`` in pixels.

    Returns:
        ``img``, RGB uint8 ``(H, W, 3)``, and ``gt_<task>`` for all of :data:`TASKS`, see :func:`render_targets`.
    """
    rgb = render_rgb(scene, size)
    return {'img': rgb, **render_targets(scene, rgb)}


__all__ = [
    'CLASSES', 'CURVATURE_SCALE', 'HUMAN_PALETTE', 'HUMAN_PARTS', 'PALETTE', 'SPLITS', 'TASKS', 'UNLABELLED', 'VERSION',
    'Scene', 'render_rgb', 'render_scene', 'render_targets', 'sample_scene',
]  # fmt: skip
