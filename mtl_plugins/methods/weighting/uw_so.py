"""Soft optimal uncertainty weighting."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import Weighting, check_number

TINY = 1e-100


class UWSO(Weighting):
    r"""Weighs by the inverse of the losses, softened: :math:`w = \mathrm{softmax}_k(1 / (T L_k))`.

    The weights add up to 1. They are what uncertainty weighting learns at rest, computed from the losses of the batch
    instead, and normalised by a softmax: there is no state, and one hyper-parameter.

    Source: Kirchdorfer et al., "Analytical Uncertainty-Based Loss Weighting in Multi-Task Learning", GCPR 2024, arXiv
    2408.07985; the formula was read in a port of it, whose :math:`T` is 1.

    The task with the least loss gets the largest weight. Where a loss is small against :math:`1 / T`, nearly all weight
    is its own, so that :math:`T` has to be chosen for the losses at hand. Losses of zero count as 1e-100.

    Args:
        temperature: :math:`T`, in units of the inverse of a loss; larger is more even.
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Raises:
        ValueError: If the temperature is out of range; from :meth:`weights`, if a loss is negative.
    """

    facts = MethodFacts(
        'Soft optimal uncertainty weighting',
        paper='Kirchdorfer et al., GCPR 2024',
        arxiv='2408.07985',
        verified='formula of a port; no vectors',
    )
    scale = 'mean'

    def __init__(self, temperature: float = 1.0, tasks: Sequence[str] | int | None = None) -> None:
        check_number(self, 'temperature', temperature, 0, open_low=True)
        self.temperature = temperature
        super().__init__(tasks)

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        self._check_sign(losses, rows)
        return torch.softmax(1 / (self.temperature * losses).clamp_min(TINY), dim=0)
