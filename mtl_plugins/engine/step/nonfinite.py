"""Losses and gradients that are not finite: finding them, and counting what had to be left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from mtl_plugins.errors import UserRuntimeError
from mtl_plugins.utils.argument_types import Checked, Index

_WORDS = {
    'loss': "the loss of task '{}'",
    'gradient': "the gradient of task '{}' (its loss is finite)",
    'moved': "the loss of task '{}' at weights moved in this batch, by a step or perturbation (before, it was finite)",
    'unknown': "the loss or gradient of task '{}'",
}
_ADVICE = {
    'loss': 'Look at the labels and loss of that task',
    'gradient': 'Look for square roots, logarithms and divisions at 0 in the losses and heads',
    'moved': 'Look at the length of the steps (learning rate, clip_grad, rho)',
    'unknown': 'Look at the labels and loss of that task',
}


class NonFiniteError(UserRuntimeError):
    """Raised when a task's loss, or the gradient, was not finite for too many batches in a row."""


class NonFiniteGuard(Checked):
    """Lets a run survive single bad batches and stops one that cannot recover.

    Args:
        patience: Batches in a row in which the same task (or the gradient) may be non-finite; one more raises.
        check_grads: Whether the reduced gradient is checked before each fp32/bf16 step (fp16 has its scaler).

    Raises:
        ValueError: If ``patience`` is negative.
    """

    PLACE = 'nonfinite'
    GRADIENT = 'gradient'

    def __init__(self, patience: Index = 50, check_grads: bool = True) -> None:
        self.patience = patience
        self.check_grads = check_grads
        self.total: dict[str, int] = {}
        self._in_a_row: dict[str, int] = {}
        self._kinds: dict[str, str] = {}
        self._this_batch: set[str] = set()

    def report(self, name: str, kind: str = 'loss') -> None:
        """Note that something was not finite in this batch.

        Args:
            name: A task, or :attr:`GRADIENT` for the summed gradient that was to be stepped.
            kind: What of the task: its ``'loss'``, its ``'gradient'`` though the loss was finite, or the loss at
                ``'moved'`` weights, after a step or a perturbation within the batch, though it was finite before.
        """
        if name in self._this_batch:
            return
        self._this_batch.add(name)
        self._kinds[name] = kind
        self.total[name] = self.total.get(name, 0) + 1
        if self.total[name] == 1:
            print_log(
                f'{self.describe(name)} is not finite; it is left out of this batch. Later cases are counted '
                f'(nonfinite/{name}); training stops after {self.patience} batches in a row',
                logger='current',
                level=30,
            )

    def describe(self, name: str) -> str:
        """What was not finite the last time."""
        return 'the gradient' if name == self.GRADIENT else _WORDS[self._kind(name)].format(name)

    def _kind(self, name: str) -> str:
        return 'gradient' if name == self.GRADIENT else self._kinds.get(name, 'unknown')

    def end_batch(self) -> None:
        """Close the batch.

        Raises:
            NonFiniteError: If something was non-finite for more than ``patience`` batches in a row.
        """
        self._in_a_row = {name: self._in_a_row.get(name, 0) + 1 for name in self._this_batch}
        self._this_batch = set()
        for name, times in self._in_a_row.items():
            if times > self.patience:
                raise NonFiniteError(
                    f'{self.describe(name)} was not finite for {times} batches in a row '
                    f'(nonfinite.patience={self.patience}). {_ADVICE[self._kind(name)]}, lower the learning rate, '
                    'or use precision="bf16" or "fp32"'
                )

    def state_dict(self) -> dict[str, Any]:
        """Plain state."""
        return dict(total=dict(self.total), in_a_row=dict(self._in_a_row), kinds=dict(self._kinds))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.total = {name: int(n) for name, n in state['total'].items()}
        self._in_a_row = {name: int(n) for name, n in state['in_a_row'].items()}
        self._kinds = dict(state.get('kinds', {}))


def all_finite(gradients: Sequence[Tensor], known: bool | None = None) -> bool:
    """Whether no gradient holds NaN or infinity; one transfer to the host, or two.

    Args:
        gradients: The gradients.
        known: What :func:`finite_norms` has told, where that was read before.
    """
    # The Euclidean norm propagates inf and NaN and is many times faster on a CPU, but the squares of large finite
    # numbers overflow; so it has the first word, and the largest magnitude the last.
    if known is None:
        known = not gradients or bool(finite_norms(gradients))
    return known or bool(finite_norms(gradients, float('inf')))


def finite_norms(gradients: Sequence[Tensor], order: float = 2.0) -> Tensor:
    """Whether all gradients have a finite norm, as a 0-dim tensor on their device."""
    return torch.isfinite(torch.stack(torch._foreach_norm(list(gradients), ord=order))).all()
