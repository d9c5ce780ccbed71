"""One run of scikit-learn's affinity propagation that tells whether it converged."""

import random
import warnings

import numpy as np


def propagate(
    similarity: np.ndarray,
    rng: np.random.RandomState,
    *,
    preference: float | None,
    damping: float,
    max_iter: int,
    convergence_iter: int,
) -> list[list[int]] | None:
    """Cluster ``similarity`` by affinity propagation (Frey and Dueck, Science 2007).

    Args:
        similarity: Array of shape (K, K), finite.
        rng: For the tiny noise by which scikit-learn breaks ties.
        preference: Inclination of every task to be the centre of a group; None for the median of all entries.
        damping: Share of the old messages in each update, in [0.5, 1).
        max_iter: Greatest number of updates.
        convergence_iter: Number of updates without a change of centres after which it has converged.

    Returns:
        The groups, or None if the messages did not settle.
    """
    # Imported here: scikit-learn takes a second to load, and most of the package does not need it. It draws from the
    # global generator while it loads, which would tell a resumed run from one that goes through.
    state = random.getstate()
    from sklearn.cluster import affinity_propagation
    from sklearn.exceptions import ConvergenceWarning

    random.setstate(state)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        centres, labels = affinity_propagation(
            similarity,
            preference=preference,
            damping=damping,
            max_iter=max_iter,
            convergence_iter=convergence_iter,
            random_state=rng,
        )
    if len(centres) == 0 or any(issubclass(item.category, ConvergenceWarning) for item in caught):
        return None
    return [list(np.flatnonzero(labels == label)) for label in range(len(centres))]
