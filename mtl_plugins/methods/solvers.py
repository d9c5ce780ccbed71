"""Small exact solvers, K x K in float64, for the problems that gradient aggregators pose.

All of them work on unit rows: the lengths d of the rows enter as separate vectors, so that rows of 1e-10 and rows of
1e15 may stand side by side. R denotes a square root of the Gramian of the unit rows, R^T R = unit; its columns are the
unit rows in other coordinates.
"""

import numpy as np

EPS = float(np.finfo(np.float64).eps)

# Relative eigenvalues of a Gramian below this are rounding, of the products and of the decomposition.
RANK = 1e-13

# The convex hull of the rows counts as containing zero if its shortest vector is this much shorter than its summands.
# Products of rows hold the square of that ratio, so that six digits of it are left in double precision.
STATIONARY = 1e-5


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
    """Return eigenvalues and eigenvectors (columns) of a Gramian of unit rows, those of numerical rank only."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > RANK * values[-1]
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
    """Return argmin |matrix @ x - target| over x >= 0, by the active set of Lawson and Hanson.

    The columns must not be longer than a few units. A term (1e-9 |x|)^2 keeps columns that are opposite up to rounding
    from cancelling with enormous factors; it moves other solutions by less than rounding does.
    """
    from scipy.optimize import nnls  # imported when needed: it takes as long as numpy and half of torch

    size = matrix.shape[1]
    stacked = np.vstack([matrix, 1e-9 * np.eye(size)])
    return nnls(stacked, np.concatenate([target, np.zeros(size)]), maxiter=30 * size)[0]


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
    return float(scaled @ unit @ scaled) <= (STATIONARY * scaled.max()) ** 2


def dual_cone_weights(unit_root: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return x >= 0 such that ``R @ (target + x)`` is ``R @ target`` projected on {u: u . e_k >= 0 for all k}."""
    return nonnegative(unit_root, -(unit_root @ target))


_TOGETHER = 12  # problems; of fewer, each takes less time by itself
_DEPENDENT = 1e-8  # relative eigenvalue below which linear equations lose digits that an active set on a root keeps


def cone_projections(unit: np.ndarray) -> np.ndarray:
    """Return :func:`dual_cone_weights` for each unit row as target: row k of the result is x for the target e_k.

    A few steps of accelerated gradient descent on all problems at once tell which weights are positive. Those follow
    from linear equations; weights that turn out to have the wrong sign, or to be missing, are exchanged by block
    principal pivoting. What is not settled so, and all problems whose rows are nearly dependent, are left to the active
    set of :func:`nonnegative`, which adds one weight at a time.
    """
    found = np.zeros_like(unit)
    waiting = np.flatnonzero(np.any(unit < 0, axis=1))
    values = np.linalg.eigvalsh(unit) if len(waiting) >= _TOGETHER else np.zeros(1)
    if values[0] > _DEPENDENT * values[-1]:
        positive = _descend(unit, unit[waiting], values)
        for _ in range(6):
            found[waiting] = _on_active(unit, unit[waiting], positive)
            slopes = unit[waiting] + found[waiting] @ unit
            rounding = 1e-14 * (1 + np.abs(found[waiting]).sum(1, keepdims=True))
            wrong = np.where(positive, found[waiting] < 0, slopes < -rounding)
            open_ones = wrong.any(1)
            waiting, positive = waiting[open_ones], (positive ^ wrong)[open_ones]
            if not len(waiting):
                return found
    columns = root(unit)
    for target in waiting:
        found[target] = dual_cone_weights(columns, np.eye(len(unit))[target])
    return found


def _descend(unit: np.ndarray, fixed: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return which weights are positive after some steps, a row per problem."""
    condition = np.sqrt(values[-1] / values[0])
    speed = (condition - 1) / (condition + 1)
    matrix, fixed = unit / values[-1], fixed / values[-1]
    weights = ahead = np.maximum(-fixed, 0)
    for _ in range(15):
        last, weights = weights, np.maximum(ahead - fixed - ahead @ matrix, 0)
        ahead = weights + speed * (weights - last)
    return weights > 0


def _on_active(unit: np.ndarray, fixed: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Return the weights, a row per problem, with which the slopes vanish on ``active``; zero elsewhere."""
    from scipy.linalg.lapack import dposv  # imported when needed, as in nonnegative

    weights = np.zeros_like(fixed)
    for row, slopes, chosen in zip(weights, fixed, active):
        (places,) = chosen.nonzero()
        if len(places):
            row[places] = dposv(unit[places][:, places], -slopes[places])[1]
    return weights


def best_in_ball(columns: np.ndarray, slopes: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, float]:
    """Maximise ``min_k (offsets_k + columns_k . e) / slopes_k`` over the ball |e| <= 1.

    The dual is to minimise ``(offsets . y + |columns @ y|) / (slopes . y)`` over y >= 0, so that any y gives an upper
    bound t. For a given bound, the shortest e with ``columns_k . e >= t slopes_k - offsets_k`` is a least-distance
    problem, which non-negative least squares solve; its multipliers y give an upper bound, and t itself is a lower one
    if e is not longer than 1. On the active set t follows from a quadratic equation, so that few steps are needed.

    Args:
        columns: Shape (n, K).
        slopes: K positive numbers.
        offsets: K numbers.

    Returns:
        y >= 0 with e = columns @ y, and the largest t.
    """
    lengths = np.sqrt(np.einsum('nk,nk->k', columns, columns))
    lower, upper = float((offsets / slopes).min()), float(((offsets + lengths) / slopes).min())
    bound, best, feasible = upper, np.zeros(len(slopes)), True
    for _ in range(100):
        multipliers, length, slack = least_distance(columns, bound * slopes - offsets)
        total = slopes @ multipliers
        if not total > 0:  # e = 0 will do
            break
        if feasible := slack > 1e-13:
            best = multipliers / max(length, slack)  # e is shortened to the ball where it is longer
            if abs(length - slack) <= 1e-13 * slack:
                break
        if feasible and length < slack:
            lower = max(lower, bound)
        else:
            upper = min(upper, bound)
        upper = min(upper, float((offsets @ multipliers + length) / total))
        guess = _bound_on(columns, slopes, offsets, multipliers > 0)
        if not lower < guess < upper or guess == bound:
            guess = upper if upper < bound else (lower + upper) / 2
        if not lower < guess <= upper or guess == bound:
            break
        bound = guess
    if not feasible:  # the bound is attained inside of the ball, where rounding decides whether there is a solution
        multipliers, length, slack = least_distance(columns, bound * slopes - offsets - 1e-9)
        best = multipliers / max(length, slack) if slack > 1e-13 else np.zeros(len(slopes))
    return best, bound


def least_distance(columns: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return y, |columns @ y| and s such that e = columns @ y / s is shortest with columns_k . e >= wanted_k.

    s = 0 if there is no such e.
    """
    target = np.zeros(len(columns) + 1)
    target[-1] = 1
    multipliers = nonnegative(np.vstack([columns, wanted]), target)
    return multipliers, float(np.linalg.norm(columns @ multipliers)), float(1 - wanted @ multipliers)


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
    keep x positive. There is no solution iff zero lies in the convex hull of the rows; then the problem with
    ``unit + 1e-6 I`` is solved instead. Should Newton's method fail there, the direction of MGDA is taken, with the
    length that the sum of the equations gives.

    Returns:
        The weights, and whether they solve the problem as it is stated: every equation to 1e-10 of its right side, or
        to 1e-14 of the summands on its left side where those are more than 10^4 times as large.
    """
    power = 1 / alpha
    right = norms ** (power - 1)
    stretch = right.max() ** (1 / (1 + power))
    right = right / right.max()
    columns = root(unit)
    if not stationary(unit, norms):
        x, miss = _newton(columns, right, power)
        if miss <= 1e-10:
            return stretch * x / norms, True
    ridge = np.vstack([columns, 1e-3 * np.eye(len(unit))])
    x, miss = _newton(ridge, right, power)
    if miss > 1e-6:
        x = min_norm_weights(unit, norms) * norms
        x = x / x.max() + 1e-12
        x = x * (right @ x ** (1 - power) / np.square(ridge @ x).sum()) ** (1 / (1 + power))
    return stretch * x / norms, False


def _newton(columns: np.ndarray, right: np.ndarray, power: float) -> tuple[np.ndarray, float]:
    # Products with the matrix go through its root: where summands cancel, that leaves twice as many digits.
    matrix = columns.T @ columns
    magnitude = np.abs(matrix)

    def gradient_at(point: np.ndarray) -> np.ndarray:
        return columns.T @ (columns @ point) - right * point**-power

    best = x = right ** (1 / (1 + power))
    best_miss, since = np.inf, 0
    for _ in range(300):
        gradient, slope = gradient_at(x), right * x**-power
        misses = np.abs(gradient) / np.maximum(slope, 1e-4 * (magnitude @ x))
        misses[(x < 1e-20 * x.max()) & (gradient > 0)] = 0  # on its way to a weight that no sum would notice
        miss = float(misses.max())
        since = 0 if miss < 0.5 * best_miss else since + 1
        if miss < best_miss:
            best, best_miss = x, miss
        if miss <= 1e-15 or (best_miss <= 1e-10 and since >= 2):
            break
        # in units of x, then scaled to a unit diagonal: rows of very different length stay solvable
        curvature = matrix * x * x[:, None]
        curvature[np.diag_indices_from(curvature)] += power * slope * x
        diagonal = np.sqrt(curvature.diagonal())
        try:
            step = np.linalg.solve(curvature / diagonal / diagonal[:, None], -gradient * x / diagonal) / diagonal
        except np.linalg.LinAlgError:
            break
        clipped = np.maximum(step, -0.9)
        if miss > 1e-3:
            descent = (gradient * x) @ clipped
            if descent >= 0:
                clipped = step * min(1.0, 0.9 / max(-step.min(), 1e-300))
                descent = (gradient * x) @ clipped
            # the function is convex: a step is short enough if the slope along it has not turned round
            while (gradient_at(x * (1 + clipped)) * x) @ clipped > -0.5 * descent and np.abs(clipped).max() > 1e-12:
                clipped = clipped / 2
        x = np.maximum(x * (1 + clipped), 1e-100 * x.max())  # a weight on its way to zero must not underflow
    return best, best_miss


def simplex_projection(vector: np.ndarray) -> np.ndarray:
    """Return the nearest w >= 0 with sum 1."""
    vector = vector - vector.max()  # which moves nothing, and leaves the 1 in sight of long vectors
    ordered = np.sort(vector)[::-1]
    excess = (np.cumsum(ordered) - 1) / np.arange(1, len(vector) + 1)
    return np.maximum(vector - excess[ordered > excess][-1], 0)
