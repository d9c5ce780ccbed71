"""Fits the weights of a checkpoint to a model with other tasks, and says by task what became of them."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from mtl_plugins.errors import UserError

SHARED = 'shared'


class CheckpointMismatchError(UserError):
    """The weights of a checkpoint have other shapes than those of the model, or none of them is in it."""


@dataclass
class WeightFit:
    """What becomes of the tensors of a checkpoint, each list by name.

    Attributes:
        loaded: In both, with the same shape.
        new: In the model alone: they keep their first values.
        dropped: In the checkpoint alone.
        mismatched: In both, with another shape: name -> (shape in the checkpoint, shape in the model).
    """

    loaded: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)


def weights_of(checkpoint: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """The tensors of a checkpoint, without the prefix that wrappers give them."""
    weights = checkpoint.get('state_dict', checkpoint)
    plain = OrderedDict(
        (name.removeprefix('module.'), each) for name, each in weights.items() if isinstance(each, Tensor)
    )
    if hasattr(weights, '_metadata'):
        plain._metadata = weights._metadata
    return plain


def other_shapes(
    saved: Mapping[str, Tensor], model: Mapping[str, Tensor]
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """The tensors that are in both with different shapes: name -> (shape in ``saved``, shape in ``model``)."""
    return {
        name: (tuple(saved[name].shape), tuple(value.shape))
        for name, value in model.items()
        if name in saved and saved[name].shape != value.shape
    }


def load_weights(model: nn.Module, saved: Mapping[str, Tensor]) -> WeightFit:
    """Load all tensors that fit, by name and shape, and tell what became of each.

    The modules load their tensors themselves, so that conversions of older checkpoints take place.
    """
    mismatched = other_shapes(saved, model.state_dict())
    fitting = OrderedDict((name, value) for name, value in saved.items() if name not in mismatched)
    if hasattr(saved, '_metadata'):  # the versions of the modules that wrote it
        fitting._metadata = saved._metadata
    missing, dropped = model.load_state_dict(fitting, strict=False)
    new = [name for name in missing if name not in mismatched and not name.endswith('num_batches_tracked')]
    untouched = {*missing, *mismatched}
    loaded = [name for name in model.state_dict() if name not in untouched]
    return WeightFit(loaded, new, list(dropped), mismatched)


def task_of_weight(name: str, tasks: Iterable[str]) -> str | None:
    """The task whose head, or part of a decoder, a tensor belongs to; None if it is shared.

    A part of the name says so: ``heads.depth.predictor.weight`` belongs to ``depth``. For models whose heads are no
    dict of tasks (``decode_head.conv_seg.weight``) the first part counts, with the ending ``_head`` left out.
    """
    parts = name.split('.')
    if parts[0] == 'heads' and len(parts) > 2:
        return parts[1]
    first = parts[0].removesuffix('_head')
    return next((task for task in tasks if task in parts or task == first), None)


def tasks_without_weights(fit: WeightFit, tasks: Sequence[str]) -> list[str]:
    """The tasks with weights of their own of which none was loaded."""
    loaded, new = _by_task(fit.loaded, tasks), _by_task([*fit.new, *fit.mismatched], tasks)
    return [task for task in tasks if task in new and task not in loaded]


def describe_fit(fit: WeightFit, tasks: Sequence[str], former_tasks: Sequence[str] = ()) -> list[str]:
    """One line per thing to know about a load, the tasks by name.

    Args:
        fit: From :func:`load_weights`.
        tasks: Tasks of the model.
        former_tasks: Tasks of the checkpoint, as far as known.
    """
    known = tuple(dict.fromkeys((*tasks, *former_tasks)))
    whose = {
        kind: _by_task(names, known)
        for kind, names in dict(loaded=fit.loaded, new=fit.new, dropped=fit.dropped, other=fit.mismatched).items()
    }
    lines = [f'{len(fit.loaded)} of {len(fit.loaded) + len(fit.new) + len(fit.mismatched)} tensors of the model loaded']
    changed = {*whose['new'], *whose['other']}
    whole = [task for task in tasks if task in whose['loaded'] and task not in changed]
    if whole:
        lines.append(f'loaded: {", ".join(whole)}')
    for task, names in whose['new'].items():
        state = 'partly new' if task in whose['loaded'] else 'not in the checkpoint'
        lines.append(f'{task}: {state}, {len(names)} tensors start from random weights ({_some(names)})')
    for task, names in whose['other'].items():
        shapes = ', '.join(_shapes(name, *fit.mismatched[name]) for name in names[:3])
        lines.append(f'{task}: {len(names)} tensors have another shape, left out, random weights ({shapes})')
    for task, names in whose['dropped'].items():
        lines.append(f'{task}: not in this model, {len(names)} tensors of the checkpoint ignored ({_some(names)})')
    return lines


def mismatch_message(mismatched: Mapping[str, tuple], checkpoint: str, option: str) -> str:
    """The message that refuses tensors of other shapes, from :func:`other_shapes`."""
    listed = '\n  '.join(_shapes(name, *shapes) for name, shapes in list(mismatched.items())[:8])
    more = f'\n  ... and {len(mismatched) - 8} more' if len(mismatched) > 8 else ''
    return (
        f'load_from={checkpoint}: {len(mismatched)} tensors have another shape than those of the model, such as '
        f'for another number of classes (checkpoint -> model):\n  {listed}{more}\n'
        f'Make the model as it was trained, or let these tensors start from random weights: {option}'
    )


def _by_task(names: Iterable[str], tasks: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(task_of_weight(name, tasks) or SHARED, []).append(name)
    return found


def _shapes(name: str, saved: tuple[int, ...], now: tuple[int, ...]) -> str:
    return f'{name} {saved} -> {now}'


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:2]) + (', ...' if len(names) > 2 else '')
