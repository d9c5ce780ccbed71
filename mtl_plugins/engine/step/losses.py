"""Which entry of a model's loss dict belongs to which task."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtl_plugins.errors import UserError, UserTypeError
from mtl_plugins.methods.naming import near_names

from .logged import LoggedScalar

NUM_VALID_SUFFIX = '.num_valid'
COUNTERS = (NUM_VALID_SUFFIX, '_mask_size')
"""Ends of the keys that count labels: ours, and that of mmpretrain's ``MultiTaskHead``."""
_NUMBERING = re.compile(r'_?\d+([._]|$)')
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


def losses_of_closure(losses: Any, tasks: Sequence[str]) -> TaskLosses:
    """What a closure of one's own returned, each loss as :meth:`LossTable.collect` takes it from a model.

    Raises:
        UserError: For a task that there is not.
        UserTypeError: For what is no dict, and for a loss of a type that is none.
    """
    if not isinstance(losses, Mapping):
        raise UserTypeError(f'a closure must return a dict {{task: loss}}, but returned a {type(losses).__name__}')
    num_valid, constant = getattr(losses, 'num_valid', {}), getattr(losses, 'constant', ())
    for task in [*losses, *num_valid]:
        if task not in tasks:
            raise UserError(
                f"a closure returned something for '{task}', but the tasks are {', '.join(map(str, tasks))}"
            )
    scalars = {task: _scalar(task, value) for task, value in losses.items()}
    return TaskLosses({task: each for task, each in scalars.items() if each is not None}, num_valid, constant)


def is_loss_key(key: str) -> bool:
    """Whether MMEngine's ``parse_losses`` would add this entry to the loss."""
    return 'loss' in key


class LossTable:
    """Assigns the keys of a loss dict to tasks.

    Args:
        tasks: ``None``: the tasks are the texts before the first dot of the loss keys, as mmseg writes them
            (``decode.loss_ce`` -> ``decode``), fixed at the first batch. A sequence of names: the same, but these are
            the tasks and their order. A dict ``{task: prefix or [prefixes]}``: a key belongs to the task with the
            longest prefix that starts it, see :func:`starts`.
        num_valid: ``{task: key or [keys]}``: entries of the model's output that count the labels behind a task's loss,
            for models with names of their own. ``<task>.num_valid``, and ``<task>_mask_size`` beside ``<task>_loss`` as
            mmpretrain's ``MultiTaskHead`` writes it, are known without.

    Raises:
        ValueError: If ``tasks`` is empty, repeats a name, or gives one prefix to two tasks; if ``num_valid`` names an
            unknown task.
        TypeError: If an argument is of another type.
    """

    def __init__(
        self,
        tasks: Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
        num_valid: Mapping[str, str | Sequence[str]] | None = None,
    ) -> None:
        self._prefixes: dict[str, str] = {}
        self._counters = _named_counters(num_valid)
        self.tasks: tuple[str, ...] | None = None
        #: Loss keys of the latest forward.
        self.seen_keys: list[str] = []
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
        for task in self._counters:
            if task not in tasks:
                raise UserError(f"num_valid names the unknown task '{task}'; the tasks are {', '.join(tasks)}")
        self.tasks = tasks

    def task_of(self, key: str) -> str:
        """Name of the task that the loss key belongs to, without checking that the task is known."""
        if not self._prefixes:
            return key.split('.', 1)[0]
        fitting = [prefix for prefix in self._prefixes if starts(prefix, key)]
        return self._prefixes[max(fitting, key=len)] if fitting else key

    def loss_keys(self, loss_dict: Mapping[str, Any]) -> list[str]:
        """The keys of a loss dict that are losses, counters left out."""
        counters = self._counter_keys(loss_dict)
        return [key for key in loss_dict if is_loss_key(key) and key not in counters]

    def collect(self, loss_dict: Mapping[str, Any]) -> TaskLosses:
        """Sum a model's loss dict into one scalar per task, in the way of MMEngine's ``parse_losses``.

        Numbers in place of tensors are constants; None, an empty list and an empty tensor are no loss.

        Args:
            loss_dict: What the model returned in ``mode='loss'``. Keys without ``loss`` are ignored, except counters.

        Raises:
            ValueError: If no task claims a loss key, or a counter that ``num_valid`` names is missing.
            TypeError: If a loss is of a type that is none.
        """
        losses: dict[str, Tensor] = {}
        keys: dict[str, list[str]] = {}
        self.seen_keys = self.loss_keys(loss_dict)
        for key in self.seen_keys:
            task = self.task_of(key)
            if self.tasks is not None and task not in self.tasks:
                raise UserError(self._unclaimed(key), advice=_UNCLAIMED)
            scalar = _scalar(key, loss_dict[key])
            if scalar is not None:
                losses[task] = losses[task] + scalar if task in losses else scalar
                keys.setdefault(task, []).append(key)
        counters = self._counter_keys(loss_dict)
        num_valid: dict[str, Tensor | float] = {}
        for task, own in keys.items():
            found = self._counters_of(task, own, counters, loss_dict)
            if found:
                num_valid[task] = sum(_elements(key, loss_dict[key]) for key in found)
        return TaskLosses(losses, num_valid)

    def detached(self, loss_dict: Mapping[str, Any]) -> dict[str, Any]:
        """The loss dict for logging: without graph, so that no local variable pins activations, and without counts.

        Counters of other projects stay, as numbers that can be averaged, unless they would be taken for losses.
        """
        out: dict[str, Any] = {}
        counters = self._counter_keys(loss_dict)
        for key, value in loss_dict.items():
            if key in counters:
                if not key.endswith(NUM_VALID_SUFFIX) and not is_loss_key(key):
                    out[key] = torch.as_tensor(_elements(key, value), dtype=torch.float32).detach()
            elif isinstance(value, list | tuple):
                parts = [_for_average(key, part) for part in value if part is not None]
                out.update({key: parts} if parts else {})
            elif value is not None and not (is_loss_key(key) and isinstance(value, Tensor) and not value.numel()):
                out[key] = LoggedScalar.of(_for_average(key, value))
        return out

    # ------------------------------------------------------------------ counters
    def _counter_keys(self, loss_dict: Mapping[str, Any]) -> list[str]:
        named = {key for keys in self._counters.values() for key in keys}
        return [key for key in loss_dict if key in named or _is_counter(key, loss_dict)]

    def _counters_of(
        self, task: str, keys: Sequence[str], counters: Sequence[str], loss_dict: Mapping[str, Any]
    ) -> list[str]:
        """The entries that together count the labels of ``task``, whose losses are ``keys``."""
        if task in self._counters:
            for name in self._counters[task]:
                if name not in loss_dict:
                    near = near_names(name, loss_dict, 2, 0.6)
                    hint = f'near: {", ".join(near)}' if near else f'it has {", ".join(loss_dict)}'
                    raise UserError(
                        f"num_valid: the model's output has the loss of task '{task}', but no entry '{name}', which is "
                        f'to count its labels ({hint})'
                    )
            return self._counters[task]
        found: dict[str, None] = {}
        for key in keys:
            stems = {_stem(counter): counter for counter in counters if self._counts(counter, task, key)}
            if stems:
                found[stems[max(stems, key=len)]] = None
        return list(found)

    def _counts(self, counter: str, task: str, key: str) -> bool:
        stem = _stem(counter)
        if not stem:
            return False
        if counter.endswith(NUM_VALID_SUFFIX):
            return stem in (task, key) or key.startswith(f'{stem}.') or self.task_of(counter) == task
        return key.startswith(f'{stem}_')

    # ------------------------------------------------------------------ messages
    def _unclaimed(self, key: str) -> str:
        known = list(self._prefixes) or list(self.tasks)
        near = near_names(key.split('.', 1)[0], known, 2, 0.6)
        hint = f' (near: {", ".join(near)})' if near else ''
        inside = [prefix for prefix in self._prefixes if key.startswith(prefix)]
        if inside:
            hint = f" (the prefix '{max(inside, key=len)}' ends inside of a name; write the name, or the key, in full)"
        example = key.split('.', 1)[0]
        return (
            f"no task claims the loss key '{key}'{hint}. Known {'prefixes' if self._prefixes else 'tasks'}: "
            f'{", ".join(known)}. Add it to optim_wrapper.tasks, for example tasks=dict(my_task="{example}")'
        )


def starts(prefix: str, key: str) -> bool:
    """Whether a prefix claims a loss key: it starts the key and does not end inside of a name.

    Names are what stands between dots; only in the last one, the name of the loss itself, the words between underscores
    count too. A number behind a name counts the parts of one thing. So ``decode`` claims ``decode.loss_ce`` and
    ``decode_0.loss_ce``, ``decode.loss`` claims ``decode.loss_ce``, and ``depth`` does not claim
    ``depth_euclidean.loss``, nor ``aux_1`` ``aux_10.loss``.
    """
    if not key.startswith(prefix):
        return False
    rest = key[len(prefix) :]
    if not rest or not prefix or rest[0] == '.' or prefix[-1] == '.':
        return True
    if _NUMBERING.match(rest) and not (prefix[-1].isdigit() and rest[0].isdigit()):
        return True
    return '.' not in rest and '_' in (prefix[-1], rest[0])


def _named_counters(num_valid: Mapping[str, str | Sequence[str]] | None) -> dict[str, list[str]]:
    if num_valid is None:
        return {}
    example = "for example num_valid=dict(wear='wear_count')"
    if not isinstance(num_valid, Mapping):
        raise UserTypeError(f'num_valid must be a dict {{task: key of the count}}, {example}, but got {num_valid!r}')
    named = {}
    for task, keys in num_valid.items():
        keys = [keys] if isinstance(keys, str) else keys
        if not isinstance(keys, (list, tuple)) or not keys or not all(isinstance(key, str) for key in keys):
            raise UserTypeError(f"num_valid['{task}'] must be a key of the loss dict or a list of keys, got {keys!r}")
        named[str(task)] = list(keys)
    return named


def _is_counter(key: str, loss_dict: Mapping[str, Any]) -> bool:
    if key.endswith(NUM_VALID_SUFFIX):
        return True
    stem = _stem(key)
    return bool(stem) and any(
        is_loss_key(other) and other.startswith(f'{stem}_') for other in loss_dict if other != key
    )


def _stem(counter: str) -> str:
    """What a counter counts, by its name; empty if it is none."""
    return next((counter[: -len(suffix)] for suffix in COUNTERS if counter.endswith(suffix)), '')


def _scalar(key: str, value: Any) -> Tensor | None:
    """One loss as a scalar; None if there is none."""
    if isinstance(value, Tensor):
        if value.is_complex():
            raise UserTypeError(f"the loss '{key}' of the model is complex; return a real number")
        value = value if value.is_floating_point() else value.float()
        return value.mean() if value.numel() else None
    if isinstance(value, int | float):
        return torch.tensor(float(value))
    if isinstance(value, list | tuple):
        parts = [part for part in (_scalar(key, each) for each in value) if part is not None]
        return sum(parts[1:], start=parts[0]) if parts else None
    if value is None:
        return None
    raise UserTypeError(
        f"the loss '{key}' of the model must be a tensor, a number or a list of them, but is a {type(value).__name__}"
    )


def _for_average(key: str, value: Any) -> Tensor:
    try:
        value = torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserTypeError(
            f"the entry '{key}' of the model's output must be a tensor, a number or a list of them, as MMEngine's log "
            f'takes them, but is a {type(value).__name__}'
        ) from error
    return value if value.is_floating_point() or value.is_complex() else value.float()


def _elements(key: str, value: Any) -> Tensor | float:
    """A count as a 0-dim tensor or number: a number, a mask to be summed, or a list of counts."""
    if value is None or isinstance(value, int | float):
        return 0.0 if value is None else float(value)
    if isinstance(value, list | tuple):
        return sum(_elements(key, part) for part in value)
    try:
        count = torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError):
        count = None
    if count is None or count.is_complex():
        raise UserTypeError(
            f"the entry '{key}' of the model's output counts labels, so that it must be a number, a mask or a list of "
            f'them, but it is a {type(value).__name__}'
        )
    # Half precision ends at 65504, fewer than the pixels of one picture.
    return count.reshape(()) if count.numel() == 1 else count.sum(dtype=torch.float64)
