"""Loss discrepancy control."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import State, Weighting, check_number
from .vector_optimizer import VectorOptimizer

TINY, LIMIT = 1e-20, 40.0
# Weighted losses that differ by less count as equal: rounding must not decide on which side of the kink they are.
_EQUAL = 1e-9


class LDCMTL(Weighting):
    r"""Learns weights that lower the weighted losses and keep those of neighbours close to each other.

    With :math:`\sigma = \mathrm{softmax}(s)` and the losses in units of where they began, :math:`\tilde L_k = L_k
    \min_j L_j(0) / L_k(0)`, model and :math:`s` minimise :math:`\sum_k \sigma_k \tilde L_k + \lambda \sum_k |\sigma_k
    \tilde L_k - \sigma_{k+1} \tilde L_{k+1}|`. The weight of :math:`L_k` is its derivative, :math:`\sigma_k
    (1 + \lambda (d_k - d_{k-1})) \min_j L_j(0) / L_k(0)` with the signs :math:`d_k` of those differences. **The result
    depends on the order of the tasks**: neighbours are those that are listed one after the other.

    Source: Xiao et al., "LDC-MTL: Balancing Multi-Task Learning through Scalable Loss Discrepancy Control", arXiv
    2502.08585 (formerly BiLB4MTL); formulas and values of :math:`\lambda` (0.05 for NYUv2, 0.1 for Cityscapes, 0.01 for
    CelebA) from the authors' program.

    Where we differ: there :math:`\sigma` comes from the pooled features of the batch by one linear layer that the
    model's optimizer trains; a weighting of this package sees losses only, so that :math:`s` is one learned number per
    task, with an optimizer of its own, kept within -40 and 40. Absent tasks have no neighbours and keep their state; a
    task's :math:`L(0)` is its loss in the first batch that has it, and at least 1e-20.

    Args:
        lamda: :math:`\lambda`, at least 0 and below 0.5, from where on a weight could be negative.
        lr: Learning rate of :math:`s`.
        optimizer: ``'adam'`` or ``'sgd'``.
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Raises:
        ValueError: If an argument is out of range; from :meth:`weights`, if a loss is negative.
    """

    facts = MethodFacts(
        'Loss discrepancy control, weights without features',
        paper='Xiao et al.',
        arxiv='2502.08585',
        verified="formula of the authors' program, whose weights follow the features; derivative by autograd",
    )
    scale = 'raw'

    def __init__(
        self,
        lamda: float = 0.05,
        lr: float = 1e-3,
        optimizer: str = 'adam',
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        check_number(self, 'lamda', lamda, 0, 0.5 - 1e-9)
        self.lamda = lamda
        self.lr = lr
        self.optimizer = optimizer
        self._optimizer = VectorOptimizer(self, optimizer, lr)
        super().__init__(tasks)

    def _start(self, num_tasks: int) -> State:
        first = torch.full((num_tasks,), float('nan'), dtype=torch.float64)
        logits = torch.zeros(num_tasks, dtype=torch.float64)
        return dict(first_loss=first, logits=logits, **self._optimizer.start(num_tasks))

    def _first(self, losses: Tensor, rows: Tensor) -> Tensor:
        first = self._state['first_loss'][rows]
        return torch.where(first.isnan(), losses, first).clamp_min(TINY)

    def _terms(self, losses: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shares, units of the losses, and derivatives of the objective with respect to the weighted losses."""
        first = self._first(losses, rows)
        units = first.min() / first
        shares = torch.softmax(self._state['logits'][rows], dim=0)
        weighted = shares * units * losses
        gaps = weighted[:-1] - weighted[1:]
        signs = torch.where(gaps.abs() > _EQUAL * torch.maximum(weighted[:-1], weighted[1:]), gaps.sign(), 0.0)
        none = signs.new_zeros(1)
        return shares, units, 1 + self.lamda * (torch.cat([signs, none]) - torch.cat([none, signs]))

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        self._check_sign(losses, rows)
        shares, units, slopes = self._terms(losses, rows)
        return shares * units * slopes

    def _after_step(self, before: Tensor, after: Tensor | None, rows: Tensor) -> None:
        shares, units, slopes = self._terms(before, rows)
        gain = slopes * units * before
        grad = shares * (gain - (shares * gain).sum())
        logits = self._optimizer.step(self._state['logits'][rows], grad, rows, self._state)
        self._state['first_loss'][rows] = self._first(before, rows)
        self._state['logits'][rows] = logits.clamp(-LIMIT, LIMIT)
