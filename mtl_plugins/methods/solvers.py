"""Small exact solvers, K x K in float64, for the problems that gradient aggregators pose.

All of them work on unit rows: the lengths d of the rows enter as separate vectors, so that rows of 1e-10 and rows of
1e15 may stand side by side. R denotes a square root of the Gramian of the unit rows, R^T R = unit; its columns are the
unit rows in other coordinates.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

EPS = float(np.finfo(np.float64).eps)


def unit_gramian(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosines of all pairs of rows and the lengths of the rows.

    Args:
        gram: Products of the rows, positive on the diagonal.
    """
    norms = np.sqrt(gram.diagonal())
    unit = np.clip(gram / norms[:, None] / norms, -1, 1)
    np.fill_diagonal(unit, 1)
    return unit, norms


def eigen(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues and eigenvectors (columns) of a symmetric matrix, those of numerical rank only."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > len(values) * EPS * values[-1]
    return values[kept], vectors[:, kept]


def root(unit: np.ndarray) -> np.ndarray:
    """Return R of shape (rank, K) with R^T R = unit, singular directions left out."""
    values, vectors = eigen(unit)
    return np.sqrt(values)[:, None] * vectors.T


def pseudo_inverse_product(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return the shortest least-squares solution x of ``matrix @ x = vector`` for a symmetric matrix."""
    values, vectors = eigen(matrix)
    return vectors @ (vectors.T @ vector / values)


def nonnegative(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return argmin |matrix @ x - target| over x >= 0, by the active set of Lawson and Hanson."""
    return nnls(matrix, target, maxiter=30 * matrix.shape[1])[0]


def min_norm_weights(unit: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Return w >= 0 with sum 1 that makes sum_k w_k d_k e_k shortest, where e_k are the unit rows.

    With v = w d and a = 1 / d, minimising |R v|^2 + (a . v - 1)^2 over v >= 0 gives the wanted v up to a factor: for a
    given direction with q = |R v|^2 / (a . v)^2 the least value is q / (1 + q), which grows with q.
    """
    inverse = norms.min() / norms
    matrix = np.vstack([root(unit), inverse])
    target = np.zeros(len(matrix))
    target[-1] = 1
    weights = nonnegative(matrix, target) * inverse
    return weights / weights.sum()
