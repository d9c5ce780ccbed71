"""Vectors of length 1."""

from __future__ import annotations

from torch import Tensor

# The gradient of x / max(|x|, eps) is at most 1 / eps: torch's default of 1e-12 would let one zero vector, which half
# precision produces easily, throw the weights away.
NORM_EPS = 1e-6


def unit_vectors(x: Tensor, dim: int) -> Tensor:
    """``x / max(|x|, 1e-6)`` along an axis; the gradient at zero is finite.

    The same as ``F.normalize``, whose norm over the channels of a map takes many times as long on a CPU (with gradient,
    3.2 against 0.2 ms for ``(8, 3, 64, 64)`` on one core).

    Args:
        x: Any shape, float32 or float64: the square of the smallest length must not vanish.
        dim: The axis.
    """
    return x * x.square().sum(dim, keepdim=True).clamp_min(NORM_EPS**2).rsqrt()
