"""A small optimizer for learned weights."""

import torch
from torch import Tensor

from .base import State, check_choice, check_number

OPTIMIZERS = ('adam', 'sgd')
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


class VectorOptimizer:
    """Adam or plain SGD on a vector with one entry per task.

    Same arithmetic as ``torch.optim``, but every entry counts its own steps, so that the entry of a task that is absent
    for a while neither moves nor loses its moments.

    Args:
        owner: The weighting, for messages.
        name: ``'adam'`` (betas 0.9 and 0.999) or ``'sgd'`` (without momentum).
        lr: Learning rate.
        weight_decay: Factor of the L2 term, which is added to the gradient.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, owner: object, name: str, lr: float, weight_decay: float = 0.0) -> None:
        check_choice(owner, 'optimizer', name, OPTIMIZERS)
        check_number(owner, 'lr', lr, 0, open_low=True)
        check_number(owner, 'weight decay', weight_decay, 0)
        self.name = name
        self.lr = lr
        self.weight_decay = weight_decay

    def start(self, num_tasks: int) -> State:
        """Return the entries to add to the state of the weighting."""
        if self.name == 'sgd':
            return {}
        zeros = torch.zeros(num_tasks, dtype=torch.float64)
        return dict(first_moment=zeros, second_moment=zeros.clone(), num_steps=torch.zeros(num_tasks, dtype=torch.long))

    def step(self, values: Tensor, grad: Tensor, rows: Tensor, state: State) -> Tensor:
        """Advance the moments of the present tasks in ``state`` and return the stepped values.

        Args:
            values: P values of the present tasks.
            grad: Their gradients.
            rows: Their numbers.
            state: State of the weighting, with the entries of :meth:`start`.
        """
        grad = grad + self.weight_decay * values
        if self.name == 'sgd':
            return values - self.lr * grad
        steps = state['num_steps'][rows] + 1
        first = _BETA1 * state['first_moment'][rows] + (1 - _BETA1) * grad
        second = _BETA2 * state['second_moment'][rows] + (1 - _BETA2) * grad.square()
        state['num_steps'][rows], state['first_moment'][rows], state['second_moment'][rows] = steps, first, second
        root = (second / (1 - _BETA2 ** steps.double())).sqrt()
        return values - self.lr * (first / (1 - _BETA1 ** steps.double())) / (root + _EPS)
