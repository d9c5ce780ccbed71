"""Geometric loss strategy."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import Weighting

TINY = 1e-20


class GLS(Weighting):
    r"""Minimises the geometric mean of the losses.

    :math:`L = (\prod_k L_k)^{1/K}`, so the weights are :math:`w_k = L / (K L_k)`: every task gets the same relative
    attention, whatever the scale of its loss.

    Source: Chennupati et al., "MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy for Multi-Task
    Learning", CVPR Workshops 2019, arXiv 1904.08492.

    It is computed from the mean of the logarithms, as in TorchJD; LibMTL multiplies the losses, which overflows, and
    the weights it reports are not the derivative. Losses below 1e-20 count as 1e-20.

    Args:
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Raises:
        ValueError: From :meth:`weights`, if a loss is negative.
    """

    facts = MethodFacts(
        'Geometric loss strategy',
        paper='Chennupati et al., CVPR Workshops 2019',
        arxiv='1904.08492',
        verified='vectors of TorchJD, LibMTL; autograd',
    )
    scale = 'mean'

    def __init__(self, tasks: Sequence[str] | int | None = None) -> None:
        super().__init__(tasks)

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        self._check_sign(losses, rows)
        logs = losses.clamp_min(TINY).log()
        return torch.exp(logs.mean() - logs) / len(logs)
