"""Uncertainty weighting."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import State, Weighting, check_choice
from .vector_optimizer import VectorOptimizer

FORMS = ('regression', 'classification')
LIMIT = 40.0


class UncertaintyWeighting(Weighting):
    r"""Learns one noise variance per task: noisy tasks count less.

    With the learned :math:`s_k = \log \sigma_k^2` the sum over the tasks of

    * regression: :math:`\frac12 e^{-s_k} L_k + \frac12 s_k`, weight :math:`\frac12 e^{-s_k}`;
    * classification: :math:`e^{-s_k} L_k + \frac12 s_k`, weight :math:`e^{-s_k}`

    is minimised over the model and :math:`s`. At rest the weight is :math:`1 / (2 L_k)` in both forms.

    Source: Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
    Semantics", CVPR 2018, arXiv 1705.07115.

    Public programs differ: nash-mtl and TorchJD use the regression form with :math:`s = 0` at first, LibMTL the same
    with -0.5 (``initial=-0.5``), SamsungLabs/MTL the classification form for all tasks. nash-mtl steps :math:`s` with
    its own learning rate, which is the default here; the others leave it to the model's optimizer. :math:`s` has no
    weight decay, and it is kept within -40 and 40, which a loss between 1e-15 and 1e15 never asks for: without the
    limit a loss of exactly zero would drive its weight to infinity. Losses have to be positive where they are good;
    a loss that stays negative drives its weight up to that limit.

    Args:
        form: ``'regression'`` or ``'classification'`` for all tasks, or a mapping from task names to one of them; a
            task that is not named has the regression form.
        lr: Learning rate of :math:`s`.
        initial: First value of :math:`s`.
        optimizer: ``'adam'`` or ``'sgd'``.
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Raises:
        ValueError: If an argument is out of range or ``form`` names an unknown task.
    """

    facts = MethodFacts(
        'Uncertainty weighting',
        paper='Kendall, Gal and Cipolla, CVPR 2018',
        arxiv='1705.07115',
        verified='regression form: vectors of nash-mtl, TorchJD, LibMTL; classification form: its rest point only',
        one_task='its learned variance scales the one loss as it scales any other, and starts at one half',
    )
    scale = 'raw'
    looks_at_losses = False

    def __init__(
        self,
        form: str | Mapping[str, str] = 'regression',
        lr: float = 0.025,
        initial: float = 0.0,
        optimizer: str = 'adam',
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        for value in form.values() if isinstance(form, Mapping) else [form]:
            check_choice(self, 'form', value, FORMS)
        self.form = form
        self.lr = lr
        self.initial = float(initial)
        self.optimizer = optimizer
        self._optimizer = VectorOptimizer(self, optimizer, lr)
        super().__init__(tasks)

    def _start(self, num_tasks: int) -> State:
        form = self.form
        if isinstance(form, Mapping):
            self._check_names('form', form)
            forms = [form.get(task, 'regression') for task in self.tasks]
        else:
            forms = [form] * num_tasks
        self._factor = torch.tensor([0.5 if name == 'regression' else 1.0 for name in forms], dtype=torch.float64)
        start = torch.full((num_tasks,), self.initial, dtype=torch.float64)
        return dict(log_variance=start, **self._optimizer.start(num_tasks))

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        return self._factor[rows] * torch.exp(-self._state['log_variance'][rows])

    def _after_step(self, before: Tensor, after: Tensor | None, rows: Tensor) -> None:
        grad = 0.5 - self._weights(before, rows) * before
        value = self._optimizer.step(self._state['log_variance'][rows], grad, rows, self._state)
        self._state['log_variance'][rows] = value.clamp(-LIMIT, LIMIT)
