"""Rows of which a process holds some columns only."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


def _same(numbers: Tensor) -> Tensor:
    return numbers


@dataclass(frozen=True)
class Part:
    """Which of all columns the rows of ``G`` hold, and how what each part knows is added up.

    Args:
        start: Index of their first column.
        width: Number of all columns; None: ``G`` holds all.
        sum: Sums a tensor over all parts; in place or not.
    """

    start: int = 0
    width: int | None = None
    sum: Callable[[Tensor], Tensor] = _same

    def lengths(self, norms: Tensor) -> Tensor:
        """Lengths of whole rows, from the norms of this part of them."""
        return norms if self.width is None else self.sum(norms.square()).sqrt()
