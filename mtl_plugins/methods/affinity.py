"""Proximal inter-task affinity: how much a step on some tasks lowers the losses of all tasks.

Source: Jeong and Yoon, "Selective Task Group Updates for Multi-Task Optimization", ICLR 2025, arXiv 2502.11986.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .similarity import check_affinity, normalised_similarity, released_similarity

CREDITS = ('stepped', 'next')


class ProximalAffinity:
    r"""Tracks the proximal inter-task affinity during ordinary training.

    After a step on the tasks of a group :math:`G` of which :math:`n` are valid in the batch, each task's relative loss
    decrease is shared equally among them, :math:`a_t = (1 - L_t^{after} / L_t^{before}) / n`. Every source s in G then
    gets

    * for a task t outside G, and for t = s: :math:`a_t`;
    * for another member t, whose change cannot be told apart from that of s: :math:`a_t` if :math:`a_t` and
      :math:`a_s` agree in sign, else :math:`-\max(a_t, a_s)`, for the pair is in conflict.

    The share and the rule for members that disagree are those of the released program; the paper's body was not at
    hand.

    The map is the exponential moving average :math:`B_{st} \leftarrow (1 - \beta) B_{st} + \beta a`, starting at 0; row
    = source, column = target. It is kept in float64 on the CPU.

    Either call :meth:`observe` with the losses before and after a step, or let the tracker pair them: call
    :meth:`start_batch` per batch and :meth:`measure` after every forward of that batch.

    Args:
        num_tasks: Number of tasks K.
        decay: Share :math:`\beta` of a new value in the average, in (0, 1].
        credit: Which group :meth:`measure` credits with the change between two forwards: ``'stepped'``, the one that
            stepped in between, or ``'next'``, the one that steps after the second forward, as the released program.
        skip_negative_self: Leave the diagonal alone when a step did not lower the source's own loss, as the released
            program does. This turns zero-mean noise into a positive bias.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> from mtl_plugins.methods import ProximalAffinity
        >>> affinity = ProximalAffinity(num_tasks=2, decay=0.5)
        >>> affinity.observe([0], before=torch.tensor([2.0, 1.0]), after=torch.tensor([1.0, 1.5]))
        >>> affinity.matrix
        tensor([[ 0.2500, -0.2500],
                [ 0.0000,  0.0000]], dtype=torch.float64)
    """

    needs_gradients = False

    def __init__(
        self, num_tasks: int, decay: float = 1e-3, credit: str = 'stepped', skip_negative_self: bool = False
    ) -> None:
        if num_tasks < 1:
            raise ValueError(f'num_tasks must be at least 1, but got {num_tasks}')
        if not 0 < decay <= 1:
            raise ValueError(f'decay must lie in (0, 1], but got {decay}')
        if credit not in CREDITS:
            raise ValueError(f'credit must be one of {CREDITS}, but got {credit!r}')
        self.num_tasks = num_tasks
        self.decay = decay
        self.credit = credit
        self.skip_negative_self = skip_negative_self
        self._matrix = torch.zeros(num_tasks, num_tasks, dtype=torch.float64)
        self.start_batch()

    @property
    def matrix(self) -> Tensor:
        """Copy of the map, float64 of shape (K, K) on the CPU; row = source, column = target."""
        return self._matrix.clone()

    def similarity(self, mode: str = 'intended') -> Tensor:
        """Return the symmetric similarity of the tasks, see :mod:`mtl_plugins.methods.similarity`.

        Args:
            mode: ``'intended'`` or ``'released'``.

        Raises:
            ValueError: If ``mode`` is neither.
        """
        if mode == 'intended':
            return normalised_similarity(self._matrix)
        if mode == 'released':
            return released_similarity(self._matrix)
        raise ValueError(f"mode must be 'intended' or 'released', but got {mode!r}")

    def start_batch(self) -> None:
        """Forget the last forward: losses of different batches must not be compared."""
        self._previous: tuple[Tensor, Tensor] | None = None
        self._stepping: tuple[int, ...] = ()
        self._moved = True
        self._at_start = self._matrix.clone()

    def forget(self, targets: Sequence[int]) -> None:
        """Take back what this batch said about the effects on ``targets``, whose losses could not be compared."""
        self._matrix[:, list(targets)] = self._at_start[:, list(targets)]

    def measure(self, losses: Tensor, group: Sequence[int] | None = None, valid: Tensor | None = None) -> None:
        """Take the losses of one forward and credit their change since the previous forward of this batch.

        Args:
            losses: All K losses of the forward.
            group: Tasks that step on this forward, None or empty for a forward that only measures.
            valid: Bool tensor of shape (K,), False for losses that do not count; None for all.

        Raises:
            ValueError: If a shape or a task number is wrong.
        """
        losses, valid = self._check_vector('losses', losses), self._check_valid(valid)
        group = () if group is None or len(group) == 0 else self._check_group(group)
        credited = self._stepping if self.credit == 'stepped' else group
        if self._previous is not None and self._moved and credited:
            before, was_valid = self._previous
            self.observe(credited, before, losses, was_valid & valid)
        self._previous, self._stepping, self._moved = (losses, valid), group, True

    def step_skipped(self) -> None:
        """Tell that the group of the last :meth:`measure` did not step (overflow): no credit at the next forward."""
        self._moved = False

    def observe(self, group: Sequence[int], before: Tensor, after: Tensor, valid: Tensor | None = None) -> None:
        """Update the map with the effect of one step.

        An entry that is not valid, whose losses are not finite, or whose loss before the step is not positive neither
        gives nor gets credit, and does not count as a member of the group.

        Args:
            group: Numbers of the tasks that stepped.
            before: K losses before the step.
            after: K losses after the step, on the same batch.
            valid: Bool tensor of shape (K,), False for losses that do not count; None for all.

        Raises:
            ValueError: If a shape or a task number is wrong.
        """
        members = self._check_group(group)
        before, after = self._check_vector('before', before), self._check_vector('after', after)
        decrease = 1 - after / before
        valid = self._check_valid(valid) & (before > 0) & torch.isfinite(before) & torch.isfinite(decrease)
        sources = torch.tensor([task for task in members if valid[task]], dtype=torch.long)
        if len(sources) == 0:
            return
        gain = decrease / len(sources)

        own = gain[sources].unsqueeze(1)
        values = gain.expand(len(sources), -1)
        inside = torch.zeros(self.num_tasks, dtype=torch.bool).index_fill_(0, sources, True)
        conflict = inside & (gain.sign() * own.sign() < 0)
        values = torch.where(conflict, -torch.maximum(gain, own), values)

        credited = valid.expand(len(sources), -1).clone()
        if self.skip_negative_self:
            credited[torch.arange(len(sources)), sources] &= gain[sources] >= 0
        old = self._matrix[sources]
        self._matrix[sources] = torch.where(credited, (1 - self.decay) * old + self.decay * values, old)

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two batches: tensors, numbers and strings only."""
        return dict(matrix=self.matrix, num_tasks=self.num_tasks, credit=self.credit)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            ValueError: If the state is from another number of tasks or another credit rule.
        """
        for name in ('num_tasks', 'credit'):
            if state[name] != getattr(self, name):
                raise ValueError(
                    f'the saved affinity has {name}={state[name]!r}, but this run has {getattr(self, name)!r}; '
                    'use load_from instead of resume to start from the weights alone'
                )
        matrix = check_affinity(state['matrix'])
        if matrix.shape != self._matrix.shape:
            raise ValueError(f'the saved affinity has shape {tuple(matrix.shape)}, not {tuple(self._matrix.shape)}')
        self._matrix = matrix.clone()
        self.start_batch()

    def _check_group(self, group: Sequence[int]) -> tuple[int, ...]:
        members = tuple(int(task) for task in group)
        if not members or len(set(members)) != len(members) or not all(0 <= t < self.num_tasks for t in members):
            raise ValueError(
                f'group must hold one or more different task numbers below {self.num_tasks}, but got {list(group)}'
            )
        return members

    def _check_vector(self, name: str, vector: Tensor) -> Tensor:
        if vector.shape != (self.num_tasks,):
            raise ValueError(f'{name} must have shape ({self.num_tasks},), but got {tuple(vector.shape)}')
        # A copy: the caller may reuse its buffer for the losses of the next forward.
        return torch.as_tensor(vector.detach(), dtype=torch.float64, device='cpu').clone()

    def _check_valid(self, valid: Tensor | None) -> Tensor:
        if valid is None:
            return torch.ones(self.num_tasks, dtype=torch.bool)
        if valid.shape != (self.num_tasks,) or valid.dtype != torch.bool:
            raise ValueError(
                f'valid must be a bool tensor of shape ({self.num_tasks},), '
                f'but got {valid.dtype} of shape {tuple(valid.shape)}'
            )
        return valid.detach().to('cpu', copy=True)


class ReleasedAffinity(ProximalAffinity):
    """The affinity as the authors' released program computes it, for comparisons.

    It differs from :class:`ProximalAffinity` in two points: the change between two forwards is credited to the group
    that steps after the second one, so that the first group of a batch gets nothing and the effect of the last group
    is never seen; and increases of a source's own loss are skipped.

    Args:
        num_tasks: Number of tasks K.
        decay: Share of a new value in the average, in (0, 1].
    """

    def __init__(self, num_tasks: int, decay: float = 1e-3) -> None:
        super().__init__(num_tasks, decay, credit='next', skip_negative_self=True)

    def update(self, group: Sequence[int], losses: Tensor) -> None:
        """Take the losses of the forward on which ``group`` is about to step."""
        self.measure(losses, group)
