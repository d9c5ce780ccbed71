"""Regions that must not count."""

from typing import Any

from mtl_plugins.errors import UserError
from mtl_plugins.registry import TRANSFORMS
from mtl_plugins.task_specs import get_task_spec

from ..human_parts import ignored_without_parts
from .base import Transform
from .fields import target_key


@TRANSFORMS.register_module()
class IgnoreEmptyParts(Transform):
    """Take the labels off a map of human parts in which nobody is to be seen.

    A map that holds nothing but background (0) and unlabelled pixels becomes unlabelled as a whole, so that it counts
    neither in the loss nor in the metric: the rule of the published work on PASCAL-Context. Put it behind the crop: a
    window that misses the person is such a map too. In test pipelines it belongs anywhere behind the loading transform.

    Args:
        task: A task of kind ``'classes'`` with class 0 for "no part". Samples without it pass.

    Raises:
        KeyError: If the task is unknown.
        ValueError: If it is not of kind ``'classes'``.
    """

    def __init__(self, task: str = 'human_parts') -> None:
        spec = get_task_spec(task)
        if spec.kind != 'classes':
            raise UserError(f"IgnoreEmptyParts: task must be of kind 'classes', but '{task}' is of kind '{spec.kind}'")
        self.task = task

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace the map if it is empty."""
        key = target_key(self.task)
        if results.get(key) is not None:
            results[key] = ignored_without_parts(results[key])
        return results
