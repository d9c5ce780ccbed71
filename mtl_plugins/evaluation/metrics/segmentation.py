"""Mean intersection over union and pixel accuracy."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from mtl_plugins.errors import UserError, UserKeyError
from mtl_plugins.registry import METRICS

from .base import NAN, DenseMetric, ratio


@METRICS.register_module()
class SegmentationMetric(DenseMetric):
    """``mIoU`` and ``aAcc`` in percent, from true and false positives pooled over the dataset.

    The number of classes is that of ``dataset_meta['classes'][task]``. Reads ``pred_<task>`` as class indices
    ``(1, H, W)``.

    Args:
        task: Key of a task of kind ``'classes'``.
        absent: What a class counts that occurs neither in a target nor in a prediction. ``'nan'`` leaves it out of the
            mean; ``'zero'`` counts it as 0, the rule of the papers on NYUD-v2 and PASCAL-Context.
        per_class: Report ``IoU.<class>`` for each class too.
        **kwargs: See :class:`DenseMetric`.

    Example:
        >>> import torch
        >>> from mtl_plugins.evaluation.metrics import SegmentationMetric
        >>> metric = SegmentationMetric('semseg')
        >>> metric.dataset_meta = dict(classes=dict(semseg=('wall', 'floor')))
        >>> image = dict(gt_semseg=torch.tensor([[[0, 1, 255]]]), pred_semseg=torch.tensor([[[0, 0, 1]]]))
        >>> metric.process({}, [image])
        >>> metric.evaluate(size=1)
        {'semseg/mIoU': 25.0, 'semseg/aAcc': 50.0}
    """

    kinds = ('classes',)
    entries = {'mIoU': ('%', True), 'aAcc': ('%', True)}

    def __init__(
        self, task: str = 'semseg', absent: Literal['nan', 'zero'] = 'nan', per_class: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(task, **kwargs)
        self.absent = absent
        self.per_class = per_class

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, from the dataset.

        Raises:
            KeyError: If the dataset does not tell the classes of the task.
        """
        classes = (self.dataset_meta or {}).get('classes')
        names = classes.get(self.task) if isinstance(classes, Mapping) else classes
        if not names:
            raise UserKeyError(
                f"SegmentationMetric: the classes of task '{self.task}' are unknown; the dataset's metainfo must have "
                f"an entry classes['{self.task}'] with their names, but has {classes!r}"
            )
        return tuple(names)

    def describe(self, name: str) -> tuple[str, bool | None]:
        """Return the unit and the direction of metric ``name``."""
        return ('%', True) if name.startswith('IoU.') else super().describe(name)

    def measure(self, pred: np.ndarray, target: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
        """Return true positives, labelled and predicted pixels per class."""
        count = len(self.class_names)
        actual = target[0][valid].astype(np.int64)
        guess = pred[0][valid].astype(np.int64)
        for name, values in (('target', actual), ('prediction', guess)):
            if values.size and not (values.min() >= 0 and values.max() < count):
                raise UserError(
                    f'the {name} holds classes {values.min()}..{values.max()}, but the dataset has {count} classes: '
                    f'0..{count - 1}, and 255 for not labelled'
                )
        return dict(
            hits=np.bincount(actual[actual == guess], minlength=count),
            actual=np.bincount(actual, minlength=count),
            predicted=np.bincount(guess, minlength=count),
        )

    def combine(self, total: Mapping[str, np.ndarray] | None) -> dict[str, float]:
        """Return ``mIoU`` and ``aAcc`` (percent), NaN if no pixel is labelled."""
        names = self.class_names
        if total is None or total['actual'].sum() == 0:
            iou = np.full(len(names), NAN)
            accuracy = NAN
        else:
            hits, union = total['hits'], total['actual'] + total['predicted'] - total['hits']
            iou = np.array([ratio(100 * hit, size) for hit, size in zip(hits, union)])
            if self.absent == 'zero':
                iou = np.nan_to_num(iou, nan=0.0)
            accuracy = ratio(100 * hits.sum(), total['actual'].sum())
        known = iou[~np.isnan(iou)]
        metrics = dict(mIoU=float(known.mean()) if known.size else NAN, aAcc=accuracy)
        if self.per_class:
            metrics.update({f'IoU.{name}': float(value) for name, value in zip(names, iou)})
        return metrics
