"""Affinity of tasks by the directions of their gradients, averaged over time.

Source: Patapati and Srinivasan, "Graph Coloring for Multi-Task Learning" (SON-GOKU), arXiv 2509.16959, and its program.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .aggregation.buffers import TaskBuffer


class GradientCosine:
    r"""Tracks the cosines of the tasks' averaged gradients on the shared parameters.

    :math:`\tilde g_k \leftarrow (1 - \beta) \tilde g_k + \beta g_k` from zero, whenever the gradient of task k is
    known, and the map holds :math:`\cos(\tilde g_i, \tilde g_j)`, float64, with ones on the diagonal and zeros for
    tasks that have not been seen. It takes 4 K D bytes for D shared parameters.

    It has the methods of :class:`~mtl_plugins.methods.ProximalAffinity` that a training step calls; those about losses
    do nothing here.

    Args:
        num_tasks: Number of tasks K.
        decay: Share :math:`\beta` of a new gradient in the average, in (0, 1].

    Attributes:
        buffer: The averages.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> from mtl_plugins.methods import GradientCosine
        >>> affinity = GradientCosine(num_tasks=2)
        >>> affinity.observe_gradient(0, torch.tensor([1.0, 0.0]))
        >>> affinity.observe_gradient(1, torch.tensor([-2.0, 0.0]))
        >>> affinity.matrix
        tensor([[ 1., -1.],
                [-1.,  1.]], dtype=torch.float64)
    """

    needs_gradients = True

    def __init__(self, num_tasks: int, decay: float = 0.1) -> None:
        if num_tasks < 1:
            raise ValueError(f'num_tasks must be at least 1, but got {num_tasks}')
        if not 0 < decay <= 1:
            raise ValueError(f'decay must lie in (0, 1], but got {decay}')
        self.num_tasks = num_tasks
        self.decay = decay
        self.buffer = TaskBuffer(type(self).__name__)

    @property
    def matrix(self) -> Tensor:
        """The map, float64 of shape (K, K) on the CPU; symmetric."""
        if self.buffer.data is None or self.buffer.data.shape[1] == 0:
            return torch.eye(self.num_tasks, dtype=torch.float64)
        rows = self.buffer.data.double()
        # Longest entry 1 first: squares of tiny gradients would vanish.
        rows = rows / rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        rows = torch.nn.functional.normalize(rows, dim=1, eps=0.5)
        cosines = (rows @ rows.T).cpu()
        return ((cosines + cosines.T) / 2).clamp(-1, 1).fill_diagonal_(1.0)

    def observe_gradient(self, task: int, gradient: Tensor) -> None:
        """Average one task's gradient in.

        Args:
            task: Number of the task.
            gradient: Tensor of shape (D,), finite.

        Raises:
            ValueError: If the task does not exist, or D is not what it was.
        """
        if not 0 <= task < self.num_tasks:
            raise ValueError(f'task must lie between 0 and {self.num_tasks - 1}, but got {task}')
        row = self.buffer.rows_for(self.num_tasks, gradient.unsqueeze(0))[task]
        row.lerp_(gradient.to(row.dtype), self.decay)

    def start_batch(self) -> None:
        """Nothing: gradients are not compared with those of another forward."""

    def measure(self, losses: Tensor, group: Sequence[int] | None = None, valid: Tensor | None = None) -> None:
        """Nothing: losses do not count."""

    def step_skipped(self) -> None:
        """Nothing: the gradients of a skipped step are not told."""

    def forget(self, targets: Sequence[int]) -> None:
        """Nothing: losses do not count."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state: tensors and numbers only."""
        return dict(num_tasks=self.num_tasks, average=None if self.buffer.data is None else self.buffer.data.clone())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            ValueError: If the state is from another affinity or number of tasks.
        """
        if 'average' not in state or state['num_tasks'] != self.num_tasks:
            raise ValueError(
                f'the saved affinity is of another kind, or of {state["num_tasks"]} tasks where this run has '
                f'{self.num_tasks}; use load_from instead of resume to start from the weights alone'
            )
        self.buffer.data = None if state['average'] is None else state['average'].clone()
