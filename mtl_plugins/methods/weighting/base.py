"""What all weightings share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtl_plugins.methods.naming import check_tasks


class Weighting(ABC):
    """Gives every task a weight, from the values of the losses alone.

    The weights are constants with respect to the model: no graph leads through them.

    Args:
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Attributes:
        accumulates_exactly: Whether weights of micro-batches give the same update as weights of the joint batch.
        needs_after_step: Whether :meth:`after_step` wants the losses after the step, which costs one more forward.
        scale: What the weights add up to when all tasks count equally: ``'sum'``, the number of present tasks;
            ``'mean'``, one; ``'raw'``, neither.
    """

    accumulates_exactly: ClassVar[bool] = False
    needs_after_step: ClassVar[bool] = False
    scale: ClassVar[str] = 'sum'

    def __init__(self, tasks: Sequence[str] | int | None = None) -> None:
        self.tasks: tuple[str, ...] | None = None
        if tasks is not None:
            self.bind(tasks)

    def bind(self, tasks: Sequence[str] | int) -> None:
        """Tell the names of the tasks, in the order of the K losses (or their number)."""
        self.tasks = check_tasks(type(self).__name__, tasks)

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        """Return one weight per task.

        Args:
            losses: K losses; entries of absent tasks are ignored, whatever they hold.
            present: Bool tensor of shape (K,).

        Returns:
            Tensor of shape (K,), dtype and device of ``losses``, without graph; 0 for absent tasks.

        Raises:
            RuntimeError: If the tasks have not been told.
            ValueError: If a shape or dtype is wrong.
        """
        if self.tasks is None:
            raise RuntimeError(f'{type(self).__name__}: call bind(tasks) before weights()')
        if losses.shape != (len(self.tasks),) or not losses.is_floating_point():
            raise ValueError(
                f'losses must be a float tensor of shape ({len(self.tasks)},), '
                f'but got {losses.dtype} of shape {tuple(losses.shape)}'
            )
        if present.shape != losses.shape or present.dtype != torch.bool:
            raise ValueError(
                f'present must be a bool tensor of shape ({len(self.tasks)},), '
                f'but got {present.dtype} of shape {tuple(present.shape)}'
            )
        losses = losses.detach()
        present = present.to(losses.device)
        return torch.where(present, self._weights(losses, present).to(losses), torch.zeros_like(losses))

    @abstractmethod
    def _weights(self, losses: Tensor, present: Tensor) -> Tensor:
        """Return the weights for checked input; entries of absent tasks are overwritten."""

    def after_step(self, before: Tensor, after: Tensor | None, present: Tensor) -> None:  # noqa: B027
        """Advance the state once per batch, after the optimizer's step.

        Args:
            before: K losses that the step was made from.
            after: K losses after the step on the same batch if ``needs_after_step``, else None.
            present: Bool tensor of shape (K,).
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the state: tensors, numbers and strings only. A weighting without state returns an empty dict."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            ValueError: If there are entries that this class does not know.
        """
        if state:
            raise ValueError(f'{type(self).__name__} has no state, but got the entries {", ".join(state)}')

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
