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


def stationary(unit: np.ndarray, norms: np.ndarray) -> bool:
    """Return whether zero lies in the convex hull of the rows, so that no direction improves all tasks."""
    scaled = min_norm_weights(unit, norms) * norms
    return float(scaled @ unit @ scaled) <= (1e-7 * scaled.max()) ** 2


def dual_cone_weights(unit_root: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return x >= 0 such that ``R @ (target + x)`` is ``R @ target`` projected on {u: u . e_k >= 0 for all k}."""
    return nonnegative(unit_root, -(unit_root @ target))


def best_in_ball(columns: np.ndarray, slopes: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, float]:
    """Maximise ``min_k (offsets_k + columns_k . e) / slopes_k`` over the ball |e| <= 1.

    The dual is to minimise ``(offsets . y + |columns @ y|) / (slopes . y)`` over y >= 0, so that any y gives an upper
    bound t. For a given bound, the shortest e with ``columns_k . e >= t slopes_k - offsets_k`` is a least-distance
    problem, which non-negative least squares solve; if it is longer than 1, or there is none, its multipliers give a
    lower bound t. On the active set t follows from a quadratic equation, so that the search ends after few steps.

    Args:
        columns: Shape (n, K).
        slopes: K positive numbers.
        offsets: K numbers.

    Returns:
        y >= 0 with e = columns @ y, and the largest t.
    """
    lengths = np.sqrt(np.einsum('nk,nk->k', columns, columns))
    bound = float(((offsets + lengths) / slopes).min())
    best, best_value = np.zeros(len(slopes)), float((offsets / slopes).min())
    target = np.zeros(len(columns) + 1)
    target[-1] = 1
    for _ in range(100):
        wanted = bound * slopes - offsets
        multipliers = nonnegative(np.vstack([columns, wanted]), target)
        total = slopes @ multipliers
        if total <= 0:
            break
        step = columns @ multipliers
        length = float(np.linalg.norm(step))
        slack = 1 - wanted @ multipliers
        factor = 1 / max(length, slack, EPS)  # shortens e to the ball where it is longer
        value = float(((offsets + factor * (step @ columns)) / slopes).min())
        if value > best_value:
            best, best_value = factor * multipliers, value
        new = min((offsets @ multipliers + length) / total, _bound_on(columns, slopes, offsets, multipliers > 0))
        if not new < bound:
            break
        bound = float(new)
    return best, best_value


def _bound_on(columns: np.ndarray, slopes: np.ndarray, offsets: np.ndarray, active: np.ndarray) -> float:
    """Return t for which the shortest e with ``columns_k . e = t slopes_k - offsets_k`` on ``active`` has length 1."""
    part = columns[:, active]
    try:
        ahead, back = np.linalg.solve(part.T @ part, np.stack([slopes[active], offsets[active]], 1)).T
    except np.linalg.LinAlgError:
        return np.inf
    square, linear = slopes[active] @ ahead, slopes[active] @ back
    discriminant = linear**2 - square * (offsets[active] @ back - 1)
    if not (square > 0 and discriminant >= 0):
        return np.inf
    return float((linear + np.sqrt(discriminant)) / square)


def fair_weights(unit: np.ndarray, norms: np.ndarray, alpha: float) -> tuple[np.ndarray, bool]:
    """Solve ``Gramian @ w = w^(-1/alpha)`` for w > 0.

    In x = w d the equation is ``unit @ x = r x^(-p)`` with p = 1/alpha and r = d^(p-1): the stationary point of the
    convex function x . unit x / 2 - sum_k r_k times a primitive of x_k^(-p), found by Newton's method with steps that
    keep x positive. There is no solution iff zero lies in the convex hull of the rows. Then, and where two rows are so
    nearly opposite that double precision cannot tell, the problem with ``unit + 1e-6 I`` is solved instead.

    Returns:
        The weights, and whether they solve the problem as it is stated.
    """
    power = 1 / alpha
    right = norms ** (power - 1)
    stretch = right.max() ** (1 / (1 + power))
    right = right / right.max()
    x, solved = _newton(unit, right, power)
    if not solved:
        x, _ = _newton(unit + 1e-6 * np.eye(len(unit)), right, power)
    return stretch * x / norms, solved


def fair_residual(matrix: np.ndarray, right: np.ndarray, power: float, x: np.ndarray) -> np.ndarray:
    """Return by how much, relative to the right side, each equation of :func:`fair_weights` is missed."""
    return (matrix @ x) * x**power / right - 1


def _newton(matrix: np.ndarray, right: np.ndarray, power: float) -> tuple[np.ndarray, bool]:
    start = right ** (1 / (1 + power))
    x, best, best_miss = start, start, np.inf
    magnitude = np.abs(matrix)
    for _ in range(200):
        slope = right * x**-power
        gradient = matrix @ x - slope
        miss = float(np.abs(gradient / slope).max())
        if miss < best_miss:
            best, best_miss, since = x, miss, 0
        else:
            since += 1
        if miss <= 1e-14 or (since >= 3 and best_miss < 1e-9) or (x / start).max() > 1e6:
            break
        # in units of x, then scaled to a unit diagonal: rows of very different length stay solvable
        curvature = matrix * x * x[:, None]
        curvature[np.diag_indices_from(curvature)] += power * slope * x
        diagonal = np.sqrt(curvature.diagonal())
        step = np.linalg.solve(curvature / diagonal / diagonal[:, None], -gradient * x / diagonal) / diagonal
        size = min(1.0, 0.9 / max(-step.min(), 1e-300))
        decrease = -(gradient * x) @ step
        if decrease > 1e-3 * (slope * x).min():
            size = _line_search(matrix, right, power, x, step, size, decrease)
        x = x * (1 + size * step)
    rounding = float((EPS * (magnitude @ best) * best**power / right).max())
    return best, best_miss <= max(1e-10, 10 * len(x) * rounding) and best_miss < 1e-6 and (best / start).max() <= 1e5


def _line_search(
    matrix: np.ndarray,
    right: np.ndarray,
    power: float,
    x: np.ndarray,
    step: np.ndarray,
    size: float,
    decrease: float,
) -> float:
    def value(point: np.ndarray) -> float:
        primitive = np.log(point) if power == 1 else point ** (1 - power) / (1 - power)
        return float(point @ matrix @ point / 2 - right @ primitive)

    here = value(x)
    for _ in range(40):
        if value(x * (1 + size * step)) <= here - 0.1 * size * decrease + 1e-12 * abs(here):
            break
        size /= 2
    return size


def simplex_projection(vector: np.ndarray) -> np.ndarray:
    """Return the nearest w >= 0 with sum 1."""
    ordered = np.sort(vector)[::-1]
    excess = (np.cumsum(ordered) - 1) / np.arange(1, len(vector) + 1)
    return np.maximum(vector - excess[ordered > excess][-1], 0)
