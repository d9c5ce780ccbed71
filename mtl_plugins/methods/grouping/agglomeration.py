"""Average-linkage agglomeration of groups of tasks."""

from collections.abc import Sequence

import numpy as np


def merge_groups(
    similarity: np.ndarray,
    groups: Sequence[Sequence[int]],
    threshold: float = np.inf,
    max_groups: int | None = None,
) -> list[list[int]]:
    """Merge the two groups with the greatest mean similarity, again and again.

    Args:
        similarity: Symmetric array of shape (K, K).
        groups: Partition to start from.
        threshold: Goes on while the greatest mean similarity of two groups exceeds this.
        max_groups: Goes on, whatever the similarity, while there are more groups than this; None for no cap.

    Returns:
        The coarser partition; a tie is resolved in favour of the pair that comes first.
    """
    merged = [list(group) for group in groups]
    member = np.zeros((len(merged), len(similarity)))
    for place, group in enumerate(merged):
        member[place, group] = 1.0
    total = member @ similarity @ member.T
    size = member.sum(axis=1)
    mean = total / np.outer(size, size)
    np.fill_diagonal(mean, -np.inf)
    gone = np.zeros(len(merged), dtype=bool)
    for alive in range(len(merged), 1, -1):
        first, second = divmod(int(mean.argmax()), len(mean))
        if not (mean[first, second] > threshold or (max_groups is not None and alive > max_groups)):
            break
        merged[first] += merged[second]
        gone[second] = True
        size[first] += size[second]
        total[first] += total[second]
        total[:, first] = total[first]
        row = np.where(gone, -np.inf, total[first] / (size * size[first]))
        row[first] = -np.inf
        mean[first] = mean[:, first] = row
        mean[second] = mean[:, second] = -np.inf
    return [group for group, is_gone in zip(merged, gone) if not is_gone]
