"""Products and sums of very long rows, without a second copy of all of them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

# Outside of these ranges factors and lengths of rows, or their products and squares, may leave that of float32.
FACTORS, LENGTHS = (1e-30, 1e15), (1e-17, 1e17)

# Columns at a time: small enough for a cache of the CPU, large enough to keep a GPU busy.
_COLUMNS_CPU, _COLUMNS_GPU = 2**14, 2**20


NORMALISERS, BY_LOSSES = ('none', 'l2', 'loss', 'loss+'), ('loss', 'loss+')


def divisors(by: str, norms: np.ndarray, losses: np.ndarray | None) -> np.ndarray | None:
    """What normalises rows: see :meth:`.base.Aggregator.normalise_rows`; None if a loss that is to is not positive.

    Args:
        by: One of ``NORMALISERS``.
        norms: Lengths of the rows.
        losses: Losses of their tasks, where they are needed.
    """
    result = norms if by in ('l2', 'loss+') else np.ones_like(norms)
    if by not in BY_LOSSES:
        return result
    return result * losses if (losses > 0).all() else None


def column_blocks(G: Tensor, width: int | None = None) -> Iterator[slice]:
    """Yield slices that cover the columns of ``G``, or the columns that ``G`` is a part of, in order."""
    step = _COLUMNS_CPU if G.device.type == 'cpu' else _COLUMNS_GPU
    for start in range(0, G.shape[1] if width is None else width, step):
        yield slice(start, start + step)


def products(G: Tensor, other: Tensor | None = None) -> Tensor:
    """Return the products of all pairs of rows, ``G @ other.T``.

    They are summed in float64: squares of float32 numbers lose no digit there, which matters because the Gramian has
    the square of the condition number of ``G``.

    Args:
        G: Tensor of shape (K, D).
        other: Tensor of shape (K, D); None for ``G`` itself.

    Returns:
        Float64 tensor of shape (K, K) on the device of ``G``.
    """
    height = _height(G)
    total = torch.zeros(height, height, dtype=torch.float64, device=G.device)
    for block in column_blocks(G):
        left = _wide(G[:, block], height)
        total.addmm_(left, (left if other is None else _wide(other[:, block], height)).T)
    return total[: len(G), : len(G)].contiguous()


def _height(G: Tensor) -> int:
    """Return with how many rows to multiply: on a CPU MKL takes half as long again for eleven as for twelve."""
    dozens = -(-len(G) // 12) * 12
    return dozens if G.device.type == 'cpu' and dozens <= min(len(G) * 4 / 3, 24) else len(G)


def _wide(rows: Tensor, height: int) -> Tensor:
    """Return the rows in float64, with rows of zeros below."""
    wide = rows.new_empty(height, rows.shape[1], dtype=torch.float64)
    wide[: len(rows)] = rows
    wide[len(rows) :] = 0
    return wide


def gramian(G: Tensor, other: Tensor | None = None) -> Tensor:
    """Return :func:`products` on the CPU; those of ``G`` with itself come out exactly symmetric."""
    found = products(G, other).cpu()
    return found if other is not None else symmetric(found)


def symmetric(gram: Tensor) -> Tensor:
    """Return the matrix with what is above its diagonal below it, too."""
    return gram.triu() + gram.triu(1).T


def weighted_sum(G: Tensor, weights: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return ``weights @ G``; rows of 16 bits are summed in float32, without a wider copy of them.

    Where weights leave the range in which float32 is safe, the sum is made in float64.

    Args:
        G: Tensor of shape (K, D).
        weights: Tensor of shape (K,).
        dtype: Of the result, for rows of 16 bits; None for that of ``G``.
    """
    wide = not within(FACTORS, weights)
    if G.dtype == torch.float64 or (G.dtype == torch.float32 and not wide):
        return weights.to(G) @ G
    working = torch.float64 if wide else torch.float32
    weights = weights.to(G.device, working)
    total = torch.empty(G.shape[1], dtype=dtype or G.dtype, device=G.device)
    for block in column_blocks(G):
        total[block] = narrowed(weights @ G[:, block].to(working), total.dtype)
    return total


def within(limits: tuple[float, float], sizes: Tensor) -> bool:
    """Return whether the magnitudes of all numbers that are not zero lie between two limits."""
    sizes = sizes.detach().abs()
    return not bool(((sizes > limits[1]) | ((sizes > 0) & (sizes < limits[0]))).any())


def narrowed(vector: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a finite vector in a narrower type, with entries beyond its range at the end of that range."""
    largest = torch.finfo(dtype).max
    return vector.clamp(-largest, largest).to(dtype) if vector.dtype != dtype else vector
