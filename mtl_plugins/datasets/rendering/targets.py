"""The targets of all tasks for one image, from the geometry at the pixel centres."""

import numpy as np
from scipy import ndimage

from ..filters import keypoint_heatmap, texture_edges, to_grey
from ..human_parts import ignored_without_parts
from .raycast import Hits, cast
from .scene import Scene

TASKS = (
    'semseg', 'depth', 'normals', 'edge', 'sal', 'human_parts', 'reshading', 'principal_curvature', 'edge_texture',
    'keypoints2d', 'edge_occlusion',
)  # fmt: skip
CURVATURE_SCALE = 0.1
"""Curvatures are given in 1/(0.1 m), so that a ball of 10 cm radius has 1; smaller radii are clipped to 1."""
EDGE_COSINE = 0.8
EDGE_INVERSE_DEPTH = 0.05
OCCLUSION_STEP = 0.5
"""A step of this height in the root of depth (metres) gives the full value of ``edge_occlusion``."""


def render_targets(scene: Scene, rgb: np.ndarray) -> dict[str, np.ndarray]:
    """All targets of an image.

    Args:
        scene: The scene.
        rgb: Its picture, ``(H, W, 3)`` uint8; the texture tasks are computed from it.

    Returns:
        ``gt_<task>`` -> array. ``(H, W)`` uint8 with 255 for "not labelled": ``semseg``, ``edge``, ``sal`` (0 or 1) and
        ``human_parts`` (255 everywhere if nobody is visible). ``(H, W)`` float32: ``depth`` in metres along the viewing
        axis; ``reshading``, ``edge_texture``, ``keypoints2d``, ``edge_occlusion`` in 0..1. ``(H, W, 3)`` float32:
        ``normals``, unit vectors, x right, y up, z towards the viewer. ``(H, W, 2)`` float32: ``principal_curvature``,
        see :data:`CURVATURE_SCALE`.
    """
    size = rgb.shape[:2]
    hits = cast(scene.camera, [part.shape for part in scene.parts], size)
    labels, depth = _per_part(scene, hits, 'label'), hits.depth.reshape(size)
    normals = (scene.camera.rotation.T @ hits.normals).T.reshape(*size, 3)
    grey = to_grey(rgb)
    targets = dict(
        semseg=labels,
        depth=depth,
        normals=normals,
        edge=label_edges(labels, normals, depth),
        sal=_per_part(scene, hits, 'salient'),
        human_parts=ignored_without_parts(_per_part(scene, hits, 'human_part')),
        reshading=_reshading(scene, hits),
        principal_curvature=np.clip(hits.curvature * CURVATURE_SCALE, 0, 1).T.reshape(*size, 2),
        edge_texture=texture_edges(grey),
        keypoints2d=keypoint_heatmap(grey),
        edge_occlusion=occlusion_edges(depth),
    )
    return {
        f'gt_{task}': np.ascontiguousarray(target, np.uint8 if target.dtype == np.uint8 else np.float32)
        for task, target in targets.items()
    }


def _per_part(scene: Scene, hits: Hits, name: str) -> np.ndarray:
    return np.array([getattr(part, name) for part in scene.parts], np.uint8)[hits.shape].reshape(hits.size)


def _reshading(scene: Scene, hits: Hits) -> np.ndarray:
    """Lambert shading with a light at the camera and no albedo, as in Taskonomy."""
    towards = np.array(scene.camera.position)[:, None] - hits.points
    cosine = (hits.normals * towards).sum(0) / np.linalg.norm(towards, axis=0)
    return np.clip(cosine, 0, 1).reshape(hits.size)


def label_edges(labels: np.ndarray, normals: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Edges as 0/1 uint8: pixels whose right or lower neighbour differs in class, orientation or distance.

    Inverse depth is linear along a plane's image, so that a slanted plane has a small constant difference and a jump a
    large one; that difference grows as pixels get coarser, hence the higher threshold below 96 pixels.

    Args:
        labels: ``(H, W)`` class indices.
        normals: ``(H, W, 3)`` unit normals.
        depth: ``(H, W)`` metres, positive.
    """
    inverse = 1 / depth
    threshold = EDGE_INVERSE_DEPTH * max(1.0, 96 / min(labels.shape))
    edges = np.zeros(labels.shape, bool)
    for here, there in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        edges[here] |= labels[here] != labels[there]
        edges[here] |= (normals[here] * normals[there]).sum(-1) < EDGE_COSINE
        edges[here] |= np.abs(inverse[here] - inverse[there]) > threshold
    return edges.astype(np.uint8)


def occlusion_edges(depth: np.ndarray) -> np.ndarray:
    """Sobel gradient magnitude of the root of depth, in 0..1 (see :data:`OCCLUSION_STEP`), ``(H, W)``."""
    root = np.sqrt(depth)
    # A step of height s gives Sobel's filter the response 4 s.
    magnitude = np.hypot(ndimage.sobel(root, 0, mode='nearest'), ndimage.sobel(root, 1, mode='nearest')) / 4
    return np.minimum(magnitude / OCCLUSION_STEP, 1)
