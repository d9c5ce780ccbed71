"""Which entry of a model's loss dict belongs to which task."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from mtl_plugins.errors import UserError, UserTypeError

NUM_VALID_SUFFIX = '.num_valid'
_UNCLAIMED = (
    'Name the task that this loss should be part of, or leave optim_wrapper.tasks out: then each prefix before the '
    'first dot is a task'
)


class TaskLosses(dict):
    """``{task: scalar loss}`` of one forward, with the valid elements behind each loss.

    Tasks without labels in the batch have no entry.

    Attributes:
        num_valid: ``{task: number of valid elements}`` (0-dim tensors or numbers). A task without an entry counts 1.
        constant: Tasks whose loss has no graph although one was asked for, as with ``torch.tensor(0.)`` for "no label
            here" or with everything below it frozen. They count 0: a loss that trains nothing must not dilute the loss
            of another rank or micro-batch.
    """

    def __init__(
        self,
        losses: Mapping[str, Tensor],
        num_valid: Mapping[str, Tensor | float] | None = None,
        constant: Iterable[str] = (),
    ) -> None:
        super().__init__(losses)
        self.num_valid = dict(num_valid or {})
        self.constant = frozenset(constant)

    def count(self, task: str) -> Tensor | float:
        """Valid elements of ``task``: 0 when absent or constant, 1 when present without a count."""
        return self.num_valid.get(task, 1.0) if task in self and task not in self.constant else 0.0


def is_loss_key(key: str) -> bool:
    """Whether MMEngine's ``parse_losses`` would add this entry to the loss."""
    return 'loss' in key


class LossTable:
    """Assigns the keys of a loss dict to tasks.

    Args:
        tasks: ``None``: the tasks are the texts before the first dot of the loss keys, as mmseg writes them
            (``decode.loss_ce`` -> ``decode``), fixed at the first batch. A sequence of names: the same, but these are
            the tasks and their order. A dict ``{task: prefix or [prefixes]}``: a key belongs to the task with the
            longest prefix that starts it.

    Raises:
        ValueError: If ``tasks`` is empty, repeats a name, or gives one prefix to two tasks.
        TypeError: If ``tasks`` is of another type.
    """

    def __init__(self, tasks: Sequence[str] | Mapping[str, str | Sequence[str]] | None = None) -> None:
        self._prefixes: dict[str, str] = {}
        self.tasks: tuple[str, ...] | None = None
        if tasks is None:
            return
        if isinstance(tasks, str) or not isinstance(tasks, (Mapping, Sequence)):
            raise UserTypeError(f'tasks must be a list of names or a dict {{task: loss prefix}}, but got {tasks!r}')
        if isinstance(tasks, Mapping):
            for task, prefixes in tasks.items():
                for prefix in [prefixes] if isinstance(prefixes, str) else prefixes:
                    if prefix in self._prefixes:
                        owner = self._prefixes[prefix]
                        raise UserError(f"tasks: the loss prefix '{prefix}' is given to both '{owner}' and '{task}'")
                    self._prefixes[prefix] = task
        self.fix(tuple(tasks))

    def fix(self, tasks: Sequence[str]) -> None:
        """Settle the task names and their order (once)."""
        tasks = tuple(tasks)
        if not tasks or len(set(tasks)) != len(tasks):
            raise UserError(f'tasks must name at least one task, each once, but got {list(tasks)}')
        self.tasks = tasks

    def task_of(self, key: str) -> str:
        """Name of the task that the loss key belongs to, without checking that the task is known."""
        if not self._prefixes:
            return key.split('.', 1)[0]
        fitting = [prefix for prefix in self._prefixes if key.startswith(prefix)]
        return self._prefixes[max(fitting, key=len)] if fitting else key

    def collect(self, loss_dict: Mapping[str, Tensor | Sequence[Tensor]]) -> TaskLosses:
        """Sum a model's loss dict into one scalar per task, in the way of MMEngine's ``parse_losses``.

        Args:
            loss_dict: What the model returned in ``mode='loss'``. Keys without ``loss`` are ignored, except
                ``<task>.num_valid``.

        Raises:
            ValueError: If no task claims a loss key.
        """
        losses: dict[str, Tensor] = {}
        num_valid: dict[str, Tensor] = {}
        for key, value in loss_dict.items():
            if key.endswith(NUM_VALID_SUFFIX):
                num_valid[self.task_of(key)] = value
            elif is_loss_key(key):
                task = self.task_of(key)
                if self.tasks is not None and task not in self.tasks:
                    raise UserError(self._unclaimed(key), advice=_UNCLAIMED)
                scalar = value.mean() if isinstance(value, Tensor) else sum(part.mean() for part in value)
                losses[task] = losses[task] + scalar if task in losses else scalar
        return TaskLosses(losses, num_valid)

    def _unclaimed(self, key: str) -> str:
        known = list(self._prefixes) or list(self.tasks)
        near = difflib.get_close_matches(key.split('.', 1)[0], known, n=2)
        hint = f' (near: {", ".join(near)})' if near else ''
        example = key.split('.', 1)[0]
        return (
            f"no task claims the loss key '{key}'{hint}. Known {'prefixes' if self._prefixes else 'tasks'}: "
            f'{", ".join(known)}. Add it to optim_wrapper.tasks, for example tasks=dict(my_task="{example}")'
        )


def detached(loss_dict: Mapping[str, Tensor | Sequence[Tensor]]) -> dict[str, Tensor | list[Tensor]]:
    """The loss dict for logging: without graph, so that no local variable pins activations, and without counts."""
    out: dict[str, Tensor | list[Tensor]] = {}
    for key, value in loss_dict.items():
        if key.endswith(NUM_VALID_SUFFIX):
            continue
        out[key] = value.detach() if isinstance(value, Tensor) else [torch.as_tensor(part).detach() for part in value]
    return out
