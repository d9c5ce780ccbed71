"""A check of targets as they are loaded, so that bad labels are named instead of spoiling a training run."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtl_plugins.errors import UserError
from mtl_plugins.registry import TRANSFORMS
from mtl_plugins.task_specs import IGNORE_INDEX, TaskSpec

from .base import Transform
from .fields import iter_targets, sample_name

NORMAL_TOLERANCE = 0.02
FARTHEST = 10_000.0
"""Metres. What is further is a code of some program for "not known" or for the sky, or another unit."""
LARGEST = 1e12
"""Values of regression targets beyond this are codes too: their squares, summed over an image, leave float32."""
_LOOK = (
    'Look at the label with tools/datasets/browse.py CONFIG, and mend the file, what reads it, or the settings of its '
    'task (num_classes, channels, unit)'
)


@TRANSFORMS.register_module()
class CheckTargets(Transform):
    """Check size, data type and values of every target against the task table.

    Put it right behind the loading transform. Each sample is checked the first time it is seen (in every worker
    process), so the cost fades after the first epoch. Samples are told apart by their index in the dataset, with one
    bit of memory each; those without an index are checked every time.

    Args:
        num_classes: Number of classes per task of kind ``'classes'``. What is not given here is taken from
            ``results['num_classes']`` if the dataset puts it there; without either, any id from 0 to 254 passes.
            Likewise the dataset says in ``results['channels']`` which tasks of kind ``'regression'`` have another
            number of channels than the task table, and in ``results['as_stored']`` which normals are the quantised
            vectors of its files, whose length is not 1.
        once: False checks a sample each time.

    Raises:
        ValueError: When applied to a bad sample. The message names the sample, the task, what was
            expected and what was found.

    Example:
        >>> import numpy as np
        >>> from mtl_plugins.datasets.transforms import CheckTargets
        >>> classes = np.full((2, 3), 7, np.uint8)
        >>> sample = dict(img=np.zeros((2, 3, 3), np.uint8), gt_semseg=classes, seg_fields=['gt_semseg'])
        >>> CheckTargets(num_classes=dict(semseg=5))(sample)
        Traceback (most recent call last):
        mtl_plugins.errors.UserError: ...
    """

    def __init__(self, num_classes: Mapping[str, int] | None = None, once: bool = True) -> None:
        self.num_classes = dict(num_classes or {})
        self.once = once
        self._seen = bytearray()

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Check one sample and return it unchanged."""
        index = int(results.get('sample_idx', -1))
        if self.once and self._was_seen(index):
            return results
        num_classes = {**results.get('num_classes', {}), **self.num_classes}
        for key, spec in iter_targets(results):
            channels = results.get('channels', {}).get(spec.key, spec.target_channels)
            problem = self._problem(
                results.get(key),
                spec,
                results['img'].shape[:2],
                channels,
                num_classes.get(spec.key),
                spec.key in results.get('as_stored', ()),
            )
            if problem:
                expected, found = problem
                raise UserError(
                    f"{sample_name(results)}, task '{spec.key}' ({spec.kind}): expected {expected}, but found {found}",
                    advice=_LOOK,
                )
        self._remember(index)
        return results

    def _was_seen(self, index: int) -> bool:
        return 0 <= index >> 3 < len(self._seen) and bool(self._seen[index >> 3] & 1 << (index & 7))

    def _remember(self, index: int) -> None:
        if index < 0:
            return
        self._seen.extend(bytes(max((index >> 3) + 1 - len(self._seen), 0)))
        self._seen[index >> 3] |= 1 << (index & 7)

    def _problem(
        self, target: Any, spec: TaskSpec, size: tuple[int, int], channels: int, classes: int | None, as_stored: bool
    ) -> tuple[str, str] | None:
        """What was expected and what was found, or None if the target is fine."""
        if not isinstance(target, np.ndarray):
            return 'a numpy array', f'{type(target).__name__}'
        shape = size if channels == 1 else (*size, channels)
        if target.shape != shape:
            return f'shape {shape}, the size of the image', f'shape {target.shape}'
        dtype = np.dtype(np.uint8 if spec.is_categorical else np.float32)
        if target.dtype != dtype:
            return f'data type {dtype}', f'{target.dtype}'
        return _check_regression(target, None) if as_stored else value_problem(target, spec, classes)


def value_problem(target: np.ndarray, spec: TaskSpec, num_classes: int | None = None) -> tuple[str, str] | None:
    """Whether the values of a target are right for its task, whatever its size and data type.

    Returns:
        None if they are, else what was expected and what was found.
    """
    return _VALUE_CHECKS[spec.kind](target, num_classes)


def _check_classes(target: np.ndarray, classes: int | None) -> tuple[str, str] | None:
    labelled = target[target != IGNORE_INDEX]
    if classes is not None and labelled.size and labelled.max() >= classes:
        bad = labelled[labelled >= classes]
        return f'class ids 0..{classes - 1} or {IGNORE_INDEX} (not labelled)', f'id {bad.max()} in {bad.size} pixels'
    return None


def _check_binary(target: np.ndarray, _: int | None) -> tuple[str, str] | None:
    bad = target[(target > 1) & (target != IGNORE_INDEX)]
    if bad.size:
        return f'values 0, 1 or {IGNORE_INDEX} (not labelled)', f'value {bad.max()} in {bad.size} pixels'
    return None


def _check_depth(target: np.ndarray, _: int | None) -> tuple[str, str] | None:
    bad = target[(target < 0) | (target > FARTHEST)]
    if bad.size:
        expected = f'finite metres of 0 or more and up to {FARTHEST:g} (0 or NaN: not known)'
        return expected, f'value {bad.min():g} in {bad.size} pixels'
    return None


def _check_normals(target: np.ndarray, _: int | None) -> tuple[str, str] | None:
    # In double precision, since the square of a wildly wrong value must not overflow with a warning of numpy's.
    length = np.sqrt(np.square(target, dtype=np.float64).sum(-1))
    bad = length[(np.abs(length - 1) > NORMAL_TOLERANCE) & (length != 0) & ~np.isnan(length)]
    if bad.size:
        return 'unit vectors (zero vector: not known)', f'length {bad.max():.4g} in {bad.size} pixels'
    return None


def _check_regression(target: np.ndarray, _: int | None) -> tuple[str, str] | None:
    bad = target[np.abs(target) > LARGEST]
    if bad.size:
        expected = 'finite values' if np.isinf(bad).any() else f'values of at most {LARGEST:g}'
        return f'{expected} (NaN: not known)', f'value {bad[0]:g} in {bad.size} pixels'
    return None


_VALUE_CHECKS = {
    'classes': _check_classes,
    'binary': _check_binary,
    'depth': _check_depth,
    'normals': _check_normals,
    'regression': _check_regression,
}
