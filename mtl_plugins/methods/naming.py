"""Names of tasks and methods: checks and messages shared by all methods."""

import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence


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


def as_built(thing: object, *without: str) -> str:
    """The call that builds a thing, with the arguments that it keeps under their names, for printing.

    Args:
        thing: What is printed.
        *without: Arguments that are left out.
    """
    names = [name for name in inspect.signature(type(thing)).parameters if hasattr(thing, name) and name not in without]
    return f'{type(thing).__name__}({", ".join(f"{name}={getattr(thing, name)!r}" for name in names)})'


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


def check_known(owner: str, argument: str, names: Iterable[str], tasks: Sequence[str]) -> None:
    """Raise a ValueError if one of the ``names`` in an argument of class ``owner`` is no task."""
    for task in names:
        if task not in tasks:
            raise ValueError(f"{owner}: {argument} names the unknown task '{task}': {near_matches(task, tasks)}")


def numbers_by_task(
    owner: str,
    argument: str,
    values: float | Sequence[float] | Mapping[str, float],
    tasks: Sequence[str],
    default: float,
) -> list[float]:
    """Return one number per task.

    Args:
        owner: Class name for the messages.
        argument: Name of the argument, for the messages.
        values: A number for all tasks, one per task in their order, or one per task name.
        tasks: Names of the tasks.
        default: For tasks that a mapping does not name.

    Raises:
        ValueError: If a name is unknown, or the number of values is another than that of the tasks.
    """
    if isinstance(values, Mapping):
        check_known(owner, argument, values, tasks)
        return [float(values.get(task, default)) for task in tasks]
    if not isinstance(values, Sequence):
        return [float(values)] * len(tasks)
    if len(values) != len(tasks):
        raise ValueError(
            f'{owner}: {argument} must hold one number for each of the {len(tasks)} tasks ({", ".join(tasks)}), '
            f'but holds {len(values)}'
        )
    return [float(value) for value in values]
