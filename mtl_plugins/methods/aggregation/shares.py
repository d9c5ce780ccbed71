"""Weights on the simplex, one per task, of which absent tasks keep their part."""

from collections.abc import Sequence

import numpy as np


def equal_shares(num_tasks: int) -> np.ndarray:
    """Return the same share for every task."""
    return np.full(num_tasks, 1 / max(num_tasks, 1))


def shares_among(shares: np.ndarray, present: Sequence[int] | np.ndarray) -> tuple[float, np.ndarray]:
    """Return the part of all shares that belongs to the present tasks, and their shares of it.

    That part is zero if the shares lie wholly on tasks that are absent; the present ones then begin with equal shares.
    """
    part = float(shares[present].sum())
    return part, shares[present] / part if part > 0 else equal_shares(len(present))
