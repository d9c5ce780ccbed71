"""A run with one task only: what to say about it, and which tasks its losses could make."""

import keyword
import re
from collections.abc import Sequence

from .catalogue import list_methods


def propose_tasks(keys: Sequence[str]) -> dict[str, str | list[str]]:
    """Tasks that could be made of the losses of one, as ``optim_wrapper.tasks`` takes them.

    The heads, if there are several; else the branches or stages of the one head (``decode.loss_ce.s0``); else every
    loss by itself.

    Args:
        keys: Loss keys of the model.

    Returns:
        ``{task: prefix or keys}``, empty if there are no two losses.
    """
    heads = dict.fromkeys(key.split('.', 1)[0] for key in keys)
    if len(heads) > 1:
        groups = {head: [key for key in keys if key.split('.', 1)[0] == head] for head in heads}
        return _named({head: [f'{head}.'] if all('.' in key for key in own) else own for head, own in groups.items()})
    branches: dict[str, list[str]] = {}
    for key in keys:
        branches.setdefault('_'.join(part for part in key.split('.')[1:] if 'loss' not in part), []).append(key)
    if len(branches) > 1:
        return _named({branch or 'main': own for branch, own in branches.items()})
    return _named({key: [key] for key in keys}) if len(keys) > 1 else {}


def _named(groups: dict[str, list[str]]) -> dict[str, str | list[str]]:
    tasks: dict[str, str | list[str]] = {}
    for name, own in groups.items():
        words = re.sub(r'\W+', '_', re.sub(r'(?<![a-z])loss(?![a-z])', '', name.rpartition('.')[2])).strip('_')
        words = re.sub(r'_+', '_', words) or 'loss'
        words = f'task_{words}' if words[0].isdigit() or keyword.iskeyword(words) else words
        unique, number = words, 2
        while unique in tasks:
            unique, number = f'{words}_{number}', number + 1
        tasks[unique] = own[0] if len(own) == 1 else own
    return tasks


def one_task_note(task: str, method: str, keys: Sequence[str]) -> str:
    """What a user should know whose run has one task only.

    Args:
        task: The task.
        method: Key of the method.
        keys: Loss keys of the model.
    """
    difference = next((row.one_task for row in list_methods() if row.key == method), '')
    effect = f'is not ordinary training either: {difference}' if difference else 'is ordinary training'
    tasks = propose_tasks(keys)
    if tasks:
        settings = ', '.join(f'{name}={prefix!r}' for name, prefix in tasks.items())
        way = f'To make tasks of its losses ({", ".join(keys)}): optim_wrapper.tasks=dict({settings})'
    elif keys:
        way = f'The model returns one loss, {keys[0]}: add another head or loss to have several tasks'
    else:
        way = 'Give several losses to have several tasks'
    return f"one task only, '{task}': there is nothing to balance, and {method} {effect}. {way}"
