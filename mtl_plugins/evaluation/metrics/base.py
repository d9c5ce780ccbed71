"""The common part of all dense metrics: per-image sums, added up over the dataset."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from mmengine.evaluator import BaseMetric

from mtl_plugins.errors import UserError, UserKeyError
from mtl_plugins.structures.fields import read_field, sample_name, valid_pixels
from mtl_plugins.task_specs import get_task_spec
from mtl_plugins.utils.argument_types import Checked

NAN = float('nan')
ROUNDING = 1e-3
"""By so much averages of probabilities may leave 0..1."""


def ratio(numerator: float, denominator: float) -> float:
    """Return ``numerator / denominator``; NaN if the numerator is not finite or there is nothing to divide by."""
    return float(numerator) / float(denominator) if denominator > 0 and math.isfinite(numerator) else NAN


class DenseMetric(Checked, BaseMetric):
    """Base of the metrics of one dense task, pooled over the pixels of the dataset.

    One entry per image goes to ``results`` (None if the image has no target of the task), so that MMEngine, which cuts
    the collected list to the size of the dataset, counts each image once however many processes evaluated it. An
    entry is a dict of sums; :meth:`combine` gets the sum of all entries, which makes the result independent of how the
    images are spread over batches and processes.

    Args:
        task: Key of the task in :mod:`mtl_plugins.task_specs`. Reads ``gt_<task>`` and ``pred_<task>``.
        prefix: Prefix of the metric names; defaults to ``task``.
        collect_device: ``'cpu'`` or ``'gpu'``, see :class:`mmengine.evaluator.BaseMetric`.
        collect_dir: Shared folder for collection on CPU.

    Subclasses set ``kinds``, the kinds of task they measure, and ``entries``: name of each metric -> (unit, None for
    that of the task; whether higher is better).

    Raises:
        KeyError: If the task is unknown.
        ValueError: If the metric does not fit the kind of the task.
    """

    kinds: ClassVar[tuple[str, ...]] = ()
    entries: ClassVar[dict[str, tuple[str | None, bool]]] = {}

    def __init__(
        self,
        task: str,
        prefix: str | None = None,
        collect_device: Literal['cpu', 'gpu'] = 'cpu',
        collect_dir: str | None = None,
    ) -> None:
        self.spec = get_task_spec(task)
        if self.kinds and self.spec.kind not in self.kinds:
            raise UserError(
                f"{type(self).__name__} measures tasks of kind {' or '.join(self.kinds)}, but task '{task}' is of kind "
                f"'{self.spec.kind}'; its default metric is {self.spec.metric.get('type')}"
            )
        super().__init__(collect_device=collect_device, prefix=prefix or task, collect_dir=collect_dir)

    @property
    def task(self) -> str:
        """Key of the measured task."""
        return self.spec.key

    def describe(self, name: str) -> tuple[str, bool | None]:
        """Return the unit and the direction of metric ``name`` (without prefix); ``('', None)`` if it is not known."""
        unit, higher_is_better = self.entries.get(name, ('', None))
        return (self.spec.unit if unit is None else unit), higher_is_better

    def process(self, data_batch: Any, data_samples: Sequence[Mapping]) -> None:
        """Append one entry per sample to ``results``.

        Raises:
            KeyError: If a sample has a target but no prediction.
            ValueError: If prediction and target do not have the same size, one has other channels than the task, or, of
                a task of kind ``'binary'``, other values than probabilities and 0, 1 and 255.
        """
        self.results.extend(self._measure_sample(sample) for sample in data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Add up the entries of all images and turn them into the metrics (names without prefix)."""
        return self.combine(self._total([entry for entry in results if entry is not None]))

    @abstractmethod
    def measure(self, pred: np.ndarray, target: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
        """Return the sums of one image.

        Args:
            pred: Prediction ``(C, H, W)``.
            target: Target ``(c, H, W)``.
            valid: Mask ``(H, W)`` of the labelled pixels; may be empty.
        """

    @abstractmethod
    def combine(self, total: Mapping[str, np.ndarray] | None) -> dict[str, float]:
        """Turn the summed entries into metrics; ``total`` is None if no image has the task."""

    def _measure_sample(self, sample: Mapping) -> dict[str, np.ndarray] | None:
        target = read_field(sample, f'gt_{self.task}')
        if target is None:
            return None
        pred = read_field(sample, f'pred_{self.task}')
        if pred is None:
            raise UserKeyError(
                f"{type(self).__name__}: {sample_name(sample)} has a target but no prediction 'pred_{self.task}'; does "
                f"the model have a head for '{self.task}'? If not, leave the task out of the evaluator's `tasks`"
            )
        if pred.shape[1:] != target.shape[1:]:
            raise UserError(
                f"{type(self).__name__}: prediction and target of '{self.task}' for {sample_name(sample)} must have "
                f'the same size, but got {pred.shape[1:]} and {target.shape[1:]}; predictions belong on the pixel grid '
                'of the target, with the padding removed'
            )
        try:
            valid = valid_pixels(self.spec, target)
            self._check(pred, target, valid)
            return self.measure(pred, target, valid)
        except UserKeyError:  # about the dataset, not about this sample
            raise
        except UserError as error:
            raise UserError(f"{type(self).__name__}: task '{self.task}', {sample_name(sample)}: {error}") from error

    def _check(self, pred: np.ndarray, target: np.ndarray, valid: np.ndarray) -> None:
        """Refuse what would be measured as something else."""
        wanted = len(target) if self.spec.kind == 'regression' else self.spec.target_channels
        for name, array in (('prediction', pred), ('target', target)):
            if len(array) != wanted:
                raise UserError(f'the {name} must have the shape ({wanted}, H, W), but has {array.shape}')
        if self.spec.kind == 'classes' and pred.dtype.kind == 'f' and (pred[0][valid] % 1 != 0).any():
            raise UserError('the prediction must hold class indices, but holds numbers between; were they resized?')
        if self.spec.kind != 'binary':
            return
        score, labels = pred[0][valid], target[0][valid]
        score = score[np.isfinite(score)]
        if score.size and (score.min() < -ROUNDING or score.max() > 1 + ROUNDING):
            raise UserError(
                f'the prediction must hold probabilities, 0 to 1, but lies in {score.min():g}..{score.max():g}; does '
                'its head decode raw outputs (sigmoid)?'
            )
        if labels.size and labels.max() > 1:
            raise UserError(f'the target must hold 0, 1 or 255 (not labelled), but holds {labels.max()}')

    @staticmethod
    def _total(entries: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray] | None:
        if not entries:
            return None
        total: dict[str, np.ndarray] = {}
        for name, value in entries[0].items():
            wide = np.int64 if value.dtype.kind in 'iu' else np.float64
            total[name] = sum((entry[name] for entry in entries), start=np.zeros(value.shape, dtype=wide))
        return total
