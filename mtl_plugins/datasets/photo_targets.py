"""Dense targets that a photograph gives by itself, as Taskonomy (Zamir et al., CVPR 2018) computes its 2D tasks.

Every target is a function of the crop alone, not of the photograph around it.
"""

import numpy as np
from skimage.segmentation import felzenszwalb

from .filters import keypoint_heatmap, texture_edges, to_grey

SELF_TASKS = ('edge_texture', 'keypoints2d', 'segment_unsup2d')
NOISE_TASK = 'denoise'
OFFERED_TASKS = (*SELF_TASKS, NOISE_TASK)


def segment_colours(rgb: np.ndarray, scale: float = 200.0, sigma: float = 0.8) -> np.ndarray:
    """Unsupervised 2D segmentation as a regression target: each pixel gets the mean colour of its segment.

    The segments are those of Felzenszwalb and Huttenlocher (IJCV 2004). Their numbers are arbitrary, hence unfit as a
    target; their mean colours are not, and flipping or cropping needs no care.

    Args:
        rgb: ``(H, W, 3)`` uint8.
        scale: Larger gives larger segments (Taskonomy: 200).
        sigma: Smoothing before segmenting, in pixels.

    Returns:
        ``(H, W, 3)`` float32 in 0..1.
    """
    smallest = max(rgb.shape[0] * rgb.shape[1] // 256, 2)
    labels = felzenszwalb(rgb, scale=scale, sigma=sigma, min_size=smallest, channel_axis=-1).ravel()
    counts = np.bincount(labels)
    means = np.stack([np.bincount(labels, rgb[..., c].ravel()) / counts for c in range(3)], -1) / 255
    return means.astype(np.float32)[labels].reshape(rgb.shape)


def add_noise(rgb: np.ndarray, std: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise to a uint8 image; ``std`` in grey levels."""
    # Box-Muller on uniform numbers: numpy keeps the uniform stream of a generator stable between versions, but makes
    # no such promise for its normal one, and the cache of a dataset should be reproducible.
    radius = np.sqrt(-2 * np.log(1 - rng.random(rgb.shape)))
    noise = radius * np.cos(2 * np.pi * rng.random(rgb.shape))
    return np.rint(rgb + std * noise).clip(0, 255).astype(np.uint8)


def photo_targets(rgb: np.ndarray) -> dict[str, np.ndarray]:
    """All targets of ``SELF_TASKS`` for an ``(H, W, 3)`` uint8 RGB crop, float32 in 0..1, by task."""
    grey = to_grey(rgb)
    return dict(
        edge_texture=texture_edges(grey), keypoints2d=keypoint_heatmap(grey), segment_unsup2d=segment_colours(rgb)
    )
