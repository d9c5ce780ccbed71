"""Dense 2D targets that are computed from the picture itself, after Taskonomy (Zamir et al., CVPR 2018).

Both maps have an absolute scale: they depend on the contrast in the image and not on its brightest pixel, so that the
values of different images can be compared, and the map of a crop is (away from its border) the crop of the map.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

GREY_WEIGHTS = (0.299, 0.587, 0.114)
KEYPOINT_SCALES = (1.0, 1.6, 2.56, 4.1)


def to_grey(rgb: np.ndarray) -> np.ndarray:
    """Luma (ITU-R BT.601) of an ``(H, W, 3)`` RGB image as ``(H, W)`` float32 in 0..1; uint8 is divided by 255."""
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f'rgb must have the shape (H, W, 3), but got {rgb.shape}')
    grey = rgb.astype(np.float32) @ np.asarray(GREY_WEIGHTS, np.float32)
    return grey / 255 if rgb.dtype == np.uint8 else grey


def texture_edges(gray: np.ndarray, sigma: float = 1.0, full_contrast: float = 0.4) -> np.ndarray:
    """Gradient magnitude of the Gaussian-smoothed image, without non-maximum suppression.

    Args:
        gray: ``(H, W)`` floats in 0..1.
        sigma: Standard deviation of the Gaussian in pixels.
        full_contrast: A straight step of this height between two grey values gives about 1; more is clipped.

    Returns:
        ``(H, W)`` float32 in 0..1.
    """
    gray = _checked(gray)
    dy = ndimage.gaussian_filter(gray, sigma, order=(1, 0), mode='nearest')
    dx = ndimage.gaussian_filter(gray, sigma, order=(0, 1), mode='nearest')
    # The steepest slope of a unit step blurred by sigma is the peak of the Gaussian.
    gain = sigma * np.sqrt(2 * np.pi) / full_contrast
    return np.minimum(np.hypot(dx, dy) * np.float32(gain), 1).astype(np.float32)


def keypoint_heatmap(
    gray: np.ndarray, scales: Sequence[float] = KEYPOINT_SCALES, full_contrast: float = 0.4
) -> np.ndarray:
    """Blob and corner strength: the largest determinant of the Hessian over several scales (Bay et al., SURF, 2006).

    The determinant is multiplied by sigma^4, which makes it comparable between scales, and its root is taken, which
    makes it linear in the contrast. Saddle points (negative determinants) count as 0.

    Args:
        gray: ``(H, W)`` floats in 0..1.
        scales: Standard deviations of the Gaussians in pixels.
        full_contrast: A Gaussian blob of this height and as wide as one of the scales gives about 1; more is clipped.

    Returns:
        ``(H, W)`` float32 in 0..1.
    """
    gray = _checked(gray)
    best = np.zeros_like(gray)
    # Continued point-symmetrically, the image has no kink at its border, which would look like a row of blobs.
    margin = int(np.ceil(3 * max(scales))) + 1
    wide = np.pad(gray, margin, mode='reflect', reflect_type='odd')
    inner = slice(margin - 1, 1 - margin)
    for sigma in scales:
        smooth = ndimage.gaussian_filter(wide, sigma, mode='nearest')[inner, inner]
        centre = 2 * smooth[1:-1, 1:-1]
        dyy = smooth[2:, 1:-1] - centre + smooth[:-2, 1:-1]
        dxx = smooth[1:-1, 2:] - centre + smooth[1:-1, :-2]
        dxy = 0.25 * (smooth[2:, 2:] - smooth[2:, :-2] - smooth[:-2, 2:] + smooth[:-2, :-2])
        np.maximum(best, (dxx * dyy - dxy * dxy) * np.float32(sigma**4), out=best)
    # A blob exp(-r^2 / 2 sigma^2) of height a, smoothed with its own sigma, has sigma^4 det = (a / 4)^2 at its centre.
    return np.minimum(np.sqrt(best) * np.float32(4 / full_contrast), 1).astype(np.float32)


def _checked(gray: np.ndarray) -> np.ndarray:
    gray = np.asarray(gray)
    if gray.ndim != 2 or gray.dtype.kind != 'f':
        raise ValueError(f'gray must be an (H, W) array of floats in 0..1, but got {gray.dtype} of shape {gray.shape}')
    return gray.astype(np.float32, copy=False)
