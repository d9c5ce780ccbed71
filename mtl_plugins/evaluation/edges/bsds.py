"""The BSDS benchmark's own matching program, through the optional package pyEdgeEval."""

from collections.abc import Callable

import numpy as np

from mtl_plugins.errors import UserImportError

from .greedy import as_maps

INSTALL = "pip install 'mtl-plugins[edges]'   (or: pip install pyEdgeEval==0.2.8)"


def load_correspond_pixels() -> Callable:
    """Return ``correspond_pixels`` of pyEdgeEval.

    Raises:
        ImportError: If pyEdgeEval is not installed; the message says how to install it.
    """
    try:
        from pyEdgeEval._lib.correspond_pixels import correspond_pixels
    except ImportError as error:
        raise UserImportError(
            "the matcher 'bsds' is the C++ program of the BSDS benchmark, which comes with pyEdgeEval and is compiled "
            f"during its installation (a C++ compiler is needed): {INSTALL}. The matcher 'exact' needs nothing and "
            f'finds at least as many pairs (cause: {error})'
        ) from error
    return correspond_pixels


def count_bsds_matches(pred: np.ndarray, target: np.ndarray, radius: float) -> int:
    """Return how many pixels the BSDS program pairs.

    It draws random numbers and leaves out a few pairs of the best matching (0.1 % or so), and takes seconds where
    :func:`mtl_plugins.evaluation.edges.count_exact_matches` takes hundredths; it is here to compare with.

    Args:
        pred: Boolean map ``(H, W)``.
        target: Boolean map of the same shape.
        radius: Largest distance in pixels.

    Raises:
        ImportError: If pyEdgeEval is not installed.
        ValueError: If the shapes differ.
    """
    correspond_pixels = load_correspond_pixels()
    pred, target = as_maps(pred, target)
    if not pred.any() or not target.any():
        return 0
    # The program takes a share of the diagonal, which must not be 0.
    share = max(radius, 1e-3) / float(np.hypot(*pred.shape))
    matched, *_ = correspond_pixels(pred, target, max_dist=share * (1 + 1e-12))
    return int(np.count_nonzero(matched))
