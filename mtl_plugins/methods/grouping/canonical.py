"""An order of the tasks that does not depend on how they are numbered."""

import numpy as np


def canonical_order(similarity: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Return the task numbers in an order that is a property of the similarities alone.

    A clustering that runs on the matrix in this order treats the tasks alike however they are listed: the order in
    which floats are added, in which ties are met and in which a library adds its noise is always the same.

    Tasks are sorted by their sorted row of similarities; where rows agree, by what their partners look like in turn
    (colour refinement). Tasks that still agree then are, but for contrived cases, exact mirror images of each other;
    no rule can prefer one, so they are put in random order.

    Args:
        similarity: Symmetric array of shape (K, K) without NaN.
        rng: Breaks the remaining ties; one draw of K numbers is taken in every call.

    Returns:
        Permutation of ``range(K)``.
    """
    num_tasks = len(similarity)
    ranks, classes = _rank_rows(np.sort(similarity, axis=1))
    if classes < num_tasks:
        # Numbers of the distinct values, so that a pair (value, rank of the partner) fits into one exact integer.
        values = np.unique(similarity, return_inverse=True)[1].reshape(similarity.shape)
        refined = 0
        while classes < num_tasks and refined != classes:
            refined = classes
            pairs = values * num_tasks + ranks
            ranks, classes = _rank_rows(np.column_stack([ranks, np.sort(pairs, axis=1)]))
    return np.lexsort((rng.random_sample(num_tasks), ranks))


def _rank_rows(rows: np.ndarray) -> tuple[np.ndarray, int]:
    """Ranks of the rows in lexicographic order, equal rows sharing one, and the number of different rows."""
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    new = np.r_[False, (ordered[1:] != ordered[:-1]).any(axis=1)]
    ranks = np.empty(len(rows), dtype=np.int64)
    ranks[order] = np.cumsum(new)
    return ranks, int(new.sum()) + 1
