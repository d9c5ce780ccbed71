"""Names of tasks and methods: checks and messages shared by all methods."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class RefusedValueError(ValueError):
    """A number of a step that a method cannot work with, and that a choice of the user can mend."""


def near_names(name: str, known: Iterable[str], n: int = 3, cutoff: float = 0.5) -> list[str]:
    """The ``n`` of the ``known`` names that are most like ``name``, the nearest first; ``cutoff`` as in difflib."""
    return difflib.get_close_matches(str(name), [str(item) for item in known], n, cutoff)


def near_matches(name: str, known: Iterable[str], title: str = 'known') -> str:
    """The end of an error message about an unknown ``name``: its near matches, or else, after ``title``, all names."""
    known = [str(item) for item in known]
    near = near_names(name, known)
    if near:
        return f'did you mean {" or ".join(map(repr, near))}?'
    return f'{title}: {", ".join(known)}'


def check_tasks(owner: str, tasks: Sequence[str] | int) -> tuple[str, ...]:
    """Return the task names as a tuple; a number K stands for the names ``'0' ... 'K-1'``.

    Args:
        owner: Class name for the messages.
        tasks: Distinct task names in the order of the rows of all K-vectors, or their number.

    Raises:
        ValueError: If there is no task or a name occurs twice.
        TypeError: If a single string is given, which would be taken apart into letters.
    """
    if isinstance(tasks, str):
        raise TypeError(f"{owner}: tasks must be a sequence of names, but got the string {tasks!r}; write ['{tasks}']")
    if isinstance(tasks, int):
        tasks = [str(index) for index in range(tasks)]
    names = tuple(tasks)
    if not names:
        raise ValueError(f'{owner}: tasks must hold at least one task, but got {tasks!r}')
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f'{owner}: every task must occur once, but {", ".join(map(repr, repeated))} occurs again')
    return names
