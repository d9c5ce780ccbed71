"""From the affinity map to the symmetric similarity that the groupers cluster."""

import torch
from torch import Tensor

DEFAULT_FLOOR = 0.1


def check_affinity(affinity: Tensor) -> Tensor:
    """Return the map as a detached float64 CPU tensor.

    Raises:
        TypeError: If ``affinity`` is no tensor.
        ValueError: If it is not square, is empty or holds NaN or infinity.
    """
    if not isinstance(affinity, Tensor):
        raise TypeError(f'affinity must be a torch.Tensor of shape (K, K), but got {type(affinity).__name__}')
    if affinity.dim() != 2 or affinity.shape[0] != affinity.shape[1] or affinity.shape[0] == 0:
        raise ValueError(f'affinity must have shape (K, K) with K >= 1, but got {tuple(affinity.shape)}')
    matrix = affinity.detach().to('cpu', torch.float64)
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError('affinity must be finite, but holds NaN or infinity; check the losses it was made from')
    return matrix


def normalised_similarity(affinity: Tensor, floor: float = DEFAULT_FLOOR) -> Tensor:
    """Relative effect of the tasks on each other, ``X_ij = B_ij / d_j``, symmetrised by the mean of both directions.

    The divisor ``d_j`` is the effect ``B_jj`` of task j on itself. Where that is negative, zero or tiny, as it may be
    early in training or by noise, the ratio would change its sign or explode; the divisor is therefore never less than
    ``floor`` times the largest effect ``max_i |B_ij|`` that any task has on j. So signs are those of ``B``, no entry
    exceeds ``1 / floor`` in absolute value, the result does not depend on the scale of a column, and a column of
    zeros (a task without any measurement) gives zeros. The diagonal is 1.

    Args:
        affinity: Map ``B`` of shape (K, K), row = source, column = target.
        floor: Smallest share of the column's largest effect that is used as divisor, in (0, 1].

    Returns:
        Symmetric float64 tensor of shape (K, K) on the CPU. Relabelling the tasks relabels its rows and columns and
        changes no bit of the entries.

    Raises:
        ValueError: If ``affinity`` is not a finite square matrix or ``floor`` lies outside (0, 1].
    """
    if not 0 < floor <= 1:
        raise ValueError(f'floor must lie in (0, 1], but got {floor}')
    matrix = check_affinity(affinity)
    largest = matrix.abs().amax(dim=0)
    # Columns are brought to the scale 1 first: floor * largest could underflow to zero, and B / B overflow.
    unit = matrix / torch.where(largest > 0, largest, torch.ones_like(largest))
    similarity = unit / unit.diagonal().clamp_min(floor)
    # x + y is the same number as y + x, so the result is symmetric, and the same for every order of the tasks.
    similarity = (similarity + similarity.T) / 2
    similarity.fill_diagonal_(1.0)
    return similarity


def released_similarity(affinity: Tensor) -> Tensor:
    """The similarity that the authors' released program clusters, for comparisons.

    It divides the columns by their diagonal entries in place, one after the other, with the divisor being a view of
    the entry itself. The entry becomes 1 when its own row is reached, so that only the rows up to the diagonal are
    divided and the strict lower triangle keeps its scale. The two triangles are then averaged. The result depends on
    the order in which the tasks are listed; a diagonal entry of zero gives infinity or NaN.

    Args:
        affinity: Map ``B`` of shape (K, K), row = source, column = target.

    Returns:
        Symmetric float64 tensor of shape (K, K), possibly not finite.
    """
    matrix = check_affinity(affinity)
    half = torch.where(torch.ones_like(matrix).triu().bool(), matrix / matrix.diagonal(), matrix)
    return (half + half.T) / 2
