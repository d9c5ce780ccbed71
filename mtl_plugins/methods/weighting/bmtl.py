"""Balanced multi-task learning."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import Weighting, check_number

LARGEST_EXPONENT = 60.0


class BMTL(Weighting):
    r"""Gives larger losses more attention: minimises :math:`\sum_k e^{L_k / T}`.

    The weights are :math:`e^{L_k / T} / T`. By default they are scaled to add up to K, :math:`w = K\,\mathrm{softmax}
    (L / T)`, a common factor that keeps the learning rate comparable to equal weights and cannot overflow.

    Source: Liang and Zhang, "A Simple General Approach to Balance Task Difficulty in Multi-Task Learning",
    arXiv 2002.04792; later "A Simple Approach to Balance Task Loss in Multi-Task Learning", IEEE BigData 2021. The
    abstract asks for a monotone transformation of the losses under which larger ones receive more attention; that it is
    this exponential, and the temperature, is **not verified** against the paper.

    Args:
        temperature: :math:`T`, in units of the losses.
        normalise: Scale the weights to add up to K. Without, they are :math:`e^{L_k / T} / T` literally, but for a
            common factor where an exponent exceeds 60.
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Raises:
        ValueError: If an argument is out of range.
    """

    facts = MethodFacts(
        'Balanced multi-task learning',
        paper='Liang and Zhang, IEEE BigData 2021',
        arxiv='2002.04792',
        verified='derived vectors; that the paper means this exponential is unverified',
    )

    def __init__(
        self, temperature: float = 50.0, normalise: bool = True, tasks: Sequence[str] | int | None = None
    ) -> None:
        check_number(self, 'temperature', temperature, 0, open_low=True)
        self.temperature = temperature
        self.normalise = normalise
        self.scale = 'sum' if normalise else 'raw'
        super().__init__(tasks)

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        exponents = losses / self.temperature
        if self.normalise:
            return len(losses) * torch.softmax(exponents, dim=0)
        excess = (exponents.max() - LARGEST_EXPONENT).clamp_min(0)
        return torch.exp(exponents - excess) / self.temperature
