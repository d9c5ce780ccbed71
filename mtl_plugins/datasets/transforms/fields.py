"""Which targets a sample carries, as all transforms here see them."""

from collections.abc import Iterator
from numbers import Real
from typing import Any

from mtl_plugins.errors import UserError
from mtl_plugins.task_specs import TaskSpec, get_task_spec

PREFIX = 'gt_'


def target_key(task: str) -> str:
    """Key of a task's target in the pipeline and in the data sample."""
    return PREFIX + task


def iter_targets(results: dict[str, Any]) -> Iterator[tuple[str, TaskSpec]]:
    """Yield ``(key, spec)`` of every target listed in ``results['seg_fields']``.

    Raises:
        ValueError: If an entry is not called ``gt_<task>``.
        KeyError: If ``<task>`` is not in the task table.
    """
    for key in results.get('seg_fields', ()):
        if not key.startswith(PREFIX):
            raise UserError(
                f"{sample_name(results)}: seg_fields lists '{key}', but the targets of mtl_plugins are called "
                f"'gt_<task>' with a task of the task table, for example 'gt_semseg'"
            )
        yield key, get_task_spec(key[len(PREFIX) :])


def check_sizes(results: dict[str, Any], owner: str, resized: bool = False) -> None:
    """Refuse targets that do not fit their image, before they are moved along with it.

    Args:
        results: The sample.
        owner: Class of the transform, for the message.
        resized: Whether the transform gives all of them one size: then another size of the same proportions will do.

    Raises:
        UserError: If a target has another size (or other proportions) than ``img``.
    """
    # Here, since the datasets of files, to which this function belongs, import this module.
    from ..files.sizes import check_aspect

    size = results['img'].shape[:2]
    for key, spec in iter_targets(results):
        found = results[key].shape[:2]
        if found == size:
            continue
        title = f"{owner}: {sample_name(results)}: the target of task '{spec.key}'"
        check_aspect(found, size, title, (), str(results.get('img_path') or ''))
        if not resized:
            raise UserError(
                f'{title} is {found[0]} x {found[1]} (height x width), but its image is {size[0]} x {size[1]}; let '
                'mtl_plugins.MultiTaskResize come before'
            )


def sample_name(results: dict[str, Any]) -> str:
    """How error messages name a sample."""
    name = results.get('img_path') or f'number {results.get("sample_idx", "?")}'
    return f"sample '{name}'"


def as_size(value: Any, owner: str) -> tuple[int, int]:
    """Read a size argument: one number for a square or ``(height, width)``.

    Args:
        value: What the config says.
        owner: Class and argument, for the message.

    Raises:
        ValueError: If it is neither, or not positive.
    """
    pair = (value, value) if isinstance(value, Real) else tuple(value)
    if len(pair) != 2 or any(int(v) != v or v < 1 for v in pair):
        raise UserError(f'{owner} must be a positive integer or (height, width), but got {value!r}')
    return int(pair[0]), int(pair[1])
