"""Targets of Taskonomy for rendered rooms, as far as the rooms do not have them already.

The exact procedures of Taskonomy (NARF keypoints, normalised cuts of a superpixel graph) are out of reach or slow; what
is made here has the same meaning and range, enough to test everything that reads, trains on or draws such maps.
"""

import warnings

import numpy as np
from scipy import ndimage
from skimage.segmentation import felzenszwalb

from mtl_plugins.datasets.rendering import sample_scene
from mtl_plugins.datasets.taskonomy.decoding import CURVATURE_MEAN, CURVATURE_STD, UNITS_PER_METRE
from mtl_plugins.datasets.transforms.geometry import resize_nearest

FLAT = 127
"""Code of no curvature."""
_CODES_PER_CURVATURE = 40
_LARGEST_SEGMENTED = 128


def room_targets(scene: dict[str, np.ndarray], split: str, seed: int, index: int) -> dict[str, np.ndarray]:
    """All eleven targets of a rendered room, see :func:`mtl_plugins.datasets.taskonomy.decode` for what they hold.

    Args:
        scene: The room, see :func:`.scenes.render_scenes`.
        split: Its split in :class:`~mtl_plugins.datasets.RoomsDataset`.
        seed: Seed of the rooms.
        index: Its number.

    Returns:
        Task -> ``(H, W)`` or ``(H, W, C)`` float32. Pixels inside of a made-up hole of the geometry are not labelled:
        NaN, zero vectors in ``normal``, -1 in maps that have no code for it.
    """
    depth, normals = scene['gt_depth'], scene['gt_normals']
    size = depth.shape
    camera = sample_scene(split, seed, index).camera
    distance = depth * _ray_lengths(camera.focal_length(size), size)
    curvature = FLAT + _CODES_PER_CURVATURE * scene['gt_principal_curvature']
    log_depth = {'depth_euclidean': _log(distance), 'depth_zbuffer': _log(depth)}
    solid = np.concatenate([scene['img'] / 255, normals / 2, np.log(depth)[..., None] / 4], axis=-1)
    targets = dict(
        **log_depth,
        edge_occlusion=2 * scene['gt_edge_occlusion'] - 1,
        edge_texture=2 * scene['gt_edge_texture'] - 1,
        keypoints2d=2 * scene['gt_keypoints2d'] - 1,
        keypoints3d=2 * corners(normals) - 1,
        normal=normals,
        principal_curvature=(curvature - CURVATURE_MEAN) / CURVATURE_STD,
        reshading=np.repeat(2 * scene['gt_reshading'][..., None] - 1, 3, axis=-1),
        segment_unsup2d=segments(scene['img'] / 255),
        segment_unsup25d=segments(solid),
    )
    targets = {task: np.array(target, np.float32) for task, target in targets.items()}
    hole = made_up_hole(size, seed, index)
    for task in ('depth_euclidean', 'depth_zbuffer', 'principal_curvature'):
        targets[task][hole] = np.nan
    targets['normal'][hole] = 0
    for task in ('edge_occlusion', 'keypoints3d', 'reshading', 'segment_unsup25d'):
        targets[task][hole] = -1
    return targets


def corners(normals: np.ndarray) -> np.ndarray:
    """Stand-in for 3D keypoints: how much the normals ``(H, W, 3)`` around a pixel differ, in 0..1, ``(H, W)``.

    On a plane their mean has length 1, along the edge of a box about 0.7, where three sides meet about 0.6.
    """
    sigma = max(normals.shape[0] / 100, 0.8)
    mean = ndimage.gaussian_filter(normals, (sigma, sigma, 0))
    return np.clip(2 * (1 - np.linalg.norm(mean, axis=-1)), 0, 1)


def segments(image: np.ndarray) -> np.ndarray:
    """Stand-in for unsupervised segments: Felzenszwalb's, each with a grey value of its own in -1..1, ``(H, W)``.

    Args:
        image: ``(H, W, C)`` floats; segmented at no more than 128 pixels a side.
    """
    step = max(1, -(-max(image.shape[:2]) // _LARGEST_SEGMENTED))
    small = np.ascontiguousarray(image[step // 2 :: step, step // 2 :: step])
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Got image with third dimension')  # which is on purpose
        labels = felzenszwalb(small, scale=100, sigma=0.8, min_size=20, channel_axis=-1)
    codes = (labels * 67 + 29) % 256  # neighbours, which have similar numbers, get distinct values
    return resize_nearest((codes * 2 / 255 - 1).astype(np.float32), image.shape[:2])


def made_up_hole(size: tuple[int, int], seed: int, index: int) -> np.ndarray:
    """An ellipse ``(H, W)`` bool, about 3 % of the image, as if the scan of the building had a hole there."""
    draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index]))).random(4)
    rows, columns = np.indices(size)
    y = (rows - draw[0] * size[0]) / (size[0] * (0.06 + 0.08 * draw[2]))
    x = (columns - draw[1] * size[1]) / (size[1] * (0.06 + 0.08 * draw[3]))
    return y**2 + x**2 < 1


def _log(metres: np.ndarray) -> np.ndarray:
    return np.log1p(metres * UNITS_PER_METRE) / np.log(2.0**16)


def _ray_lengths(focal: float, size: tuple[int, int]) -> np.ndarray:
    """Distance along the ray of each pixel per metre along the viewing axis, ``(H, W)``."""
    y = (np.arange(size[0]) + 0.5 - size[0] / 2) / focal
    x = (np.arange(size[1]) + 0.5 - size[1] / 2) / focal
    return np.sqrt(1 + y[:, None] ** 2 + x**2)
