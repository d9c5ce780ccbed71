"""Gradient normalisation."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import State, Weighting, check_choice, check_number, to_sum
from .epoch_means import EpochMeans
from .vector_optimizer import VectorOptimizer

FORMS = ('direct', 'softmax')
TINY = 1e-20


class GradNorm(Weighting):
    r"""Learns weights under which tasks that lag behind have larger gradients.

    With the norms :math:`N_k = \|\nabla_W w_k L_k\|` on the last shared layer W, their mean :math:`\bar N`, and the
    relative inverse training rates :math:`r_k = (L_k / L_k(0)) / \mathrm{mean}_j (L_j / L_j(0))`, the weights go a step
    along the gradient of :math:`\sum_k |N_k - \bar N r_k^\alpha|`, in which :math:`\bar N r_k^\alpha` is a constant,
    and are scaled to add up to K. As :math:`N_k = w_k \|\nabla_W L_k\|`, that gradient is
    :math:`\mathrm{sign}(N_k - \bar N r_k^\alpha)\,\|\nabla_W L_k\|`. The new weights act from the next step on.

    Source: Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks", ICML
    2018, arXiv 1711.02257.

    LibMTL learns :math:`v` with :math:`w = K\,\mathrm{softmax}(v)` (``form='softmax'``), takes the norms over all
    shared parameters, :math:`\alpha = 1.5`, and the mean losses of the first epoch as :math:`L(0)`
    (``reference='epoch'``); SamsungLabs/MTL has :math:`\alpha = 2`. With ``form='direct'`` a step that would make a
    weight smaller than ``floor`` stops there, for nothing in the paper keeps the weights positive.

    Args:
        alpha: Strength :math:`\alpha` of the pull to equal training rates; 0 makes all norms equal.
        lr: Learning rate of the weights.
        form: ``'direct'`` or ``'softmax'``.
        reference: Where :math:`L(0)` comes from: ``'first'``, the first batch that has the task; ``'epoch'``, its mean
            over the first epoch, in which all weights are 1 (:meth:`set_epoch_length` has to tell its length); or one
            positive number per task name, such as the logarithm of the number of classes, with ``'first'`` for others.
        floor: Smallest weight of ``'direct'`` before the scaling.
        optimizer: ``'adam'`` or ``'sgd'``.
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Raises:
        ValueError: If an argument is out of range or ``reference`` names an unknown task; from
            :meth:`after_step`, if a loss is negative.
    """

    facts = MethodFacts(
        'Gradient normalisation',
        paper='Chen et al., ICML 2018',
        arxiv='1711.02257',
        verified='derivative by autograd; no vectors',
    )
    accumulates_exactly = False
    needs_grad_norms = True
    looks_at_losses = False

    def __init__(
        self,
        alpha: float = 1.5,
        lr: float = 0.025,
        form: str = 'direct',
        reference: str | Mapping[str, float] = 'first',
        floor: float = 1e-3,
        optimizer: str = 'adam',
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        check_number(self, 'alpha', alpha, 0)
        check_number(self, 'floor', floor, 0, 1, open_low=True)
        check_choice(self, 'form', form, FORMS)
        if isinstance(reference, Mapping):
            for value in reference.values():
                check_number(self, 'reference', value, 0, open_low=True)
        else:
            check_choice(self, 'reference', reference, ('first', 'epoch'))
        self.alpha = alpha
        self.lr = lr
        self.form = form
        self.reference = reference
        self.floor = floor
        self.optimizer = optimizer
        self._optimizer = VectorOptimizer(self, optimizer, lr)
        super().__init__(tasks)

    def _start(self, num_tasks: int) -> State:
        self._norms: Tensor | None = None
        given = self.reference if isinstance(self.reference, Mapping) else {}
        values = torch.full((num_tasks,), 1.0 if self.form == 'direct' else 0.0, dtype=torch.float64)
        state: State = dict(values=values, first_loss=self._per_task('reference', given, float('nan')))
        if self.reference == 'epoch':
            state.update(epochs=0, **EpochMeans.start(num_tasks))
        return state | self._optimizer.start(num_tasks)

    def observe_grad_norms(self, norms: Tensor, losses: Tensor, present: Tensor) -> None:
        """Take the gradient norms of this batch, for :meth:`after_step`."""
        values, rows = self._check('norms', norms, present)
        self._norms = torch.full((len(self.tasks),), float('nan'), dtype=torch.float64)
        self._norms[rows] = values

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        values = self._state['values'][rows]
        return to_sum(values) if self.form == 'direct' else len(rows) * torch.softmax(values, dim=0)

    def _after_step(self, before: Tensor, after: Tensor | None, rows: Tensor) -> None:
        if self._norms is None or bool(self._norms[rows].isnan().any()):
            raise RuntimeError('GradNorm: call observe_grad_norms() with the norms of all present tasks in every step')
        self._check_sign(before, rows)
        norms, self._norms = self._norms[rows], None
        state = self._state
        if state.get('epochs') == 0:
            means = EpochMeans.add(self, state, before, rows)
            if means is not None:
                state.update(first_loss=means, epochs=1)
            return
        first = state['first_loss'][rows]
        first = torch.where(first.isnan(), before, first)
        state['first_loss'][rows] = first
        if len(rows) > 1:
            state['values'][rows] = self._next_values(before, first, norms, rows)

    def _next_values(self, losses: Tensor, first: Tensor, norms: Tensor, rows: Tensor) -> Tensor:
        weights, values = self._weights(losses, rows), self._state['values'][rows]
        rates = losses.clamp_min(TINY) / first.clamp_min(TINY)
        weighted = weights * norms
        target = weighted.mean() * (rates / rates.mean()) ** self.alpha
        grad = torch.sign(weighted - target) * norms
        if self.form == 'softmax':
            grad = weights * (grad - (weights * grad).mean())
            return self._optimizer.step(values, grad, rows, self._state)
        stepped = to_sum(self._optimizer.step(weights, grad, rows, self._state).clamp_min(self.floor))
        # The absent tasks keep their weights, so the present ones keep their sum.
        return stepped * values.sum() / len(rows)
