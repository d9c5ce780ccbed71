"""Two tasks that the package does not have, and a metric for one of them."""

import numpy as np

from mtl_plugins.evaluation import DenseMetric
from mtl_plugins.registry import METRICS
from mtl_plugins.task_specs import IGNORE_INDEX, TaskSpec, register_task_spec

register_task_spec(
    TaskSpec(
        key='shape',
        title='Kind of shape',
        kind='classes',  # targets are uint8 with 255 for "not labelled"; the head gives one channel per class
        channels=None,  # the config of the head says how many classes there are
        unit='%',  # of the headline, as tables show it
        fill=IGNORE_INDEX,  # what padding writes into a target
        loss=dict(type='mtl_plugins.MaskedCrossEntropyLoss'),
        metric=dict(type='mtl_plugins.SegmentationMetric'),
        headline='mIoU',  # the entry of the metric that tables and delta_m use
        higher_is_better=True,
        painter='classes',
    )
)
register_task_spec(
    TaskSpec(
        key='outline_distance',
        title='Distance to the next outline',
        kind='regression',  # targets are float32 with NaN for "not labelled"
        channels=1,
        unit='%',
        loss=dict(type='mtl_plugins.MaskedL1Loss'),
        metric=dict(type='WithinMetric', distance=2.0),
        headline='within',
        higher_is_better=True,
        painter='grey',
        value_range=(0.0, 16.0),  # black and white of the pictures
    )
)


@METRICS.register_module()
class WithinMetric(DenseMetric):
    """Share of the labelled pixels whose error is at most ``distance``, in percent.

    Args:
        task: Key of a task of kind ``'regression'``.
        distance: In the unit of the task.
        **kwargs: See DenseMetric.
    """

    kinds = ('regression',)
    entries = {'within': ('%', True)}  # name -> unit, and whether higher is better

    def __init__(self, task, distance=1.0, **kwargs):
        super().__init__(task, **kwargs)
        if distance <= 0:
            raise ValueError(f'WithinMetric.distance must be positive, but got {distance!r}')
        self.distance = distance

    def measure(self, pred, target, valid):
        """Sums of one image; those of all images are added up, however many processes share them."""
        right = np.abs(pred[:, valid] - target[:, valid]) <= self.distance
        return dict(right=np.array(right.sum()), count=np.array(right.size))

    def combine(self, total):
        """The metric from the sums; NaN if no image has the task."""
        if total is None or not total['count']:
            return dict(within=float('nan'))
        return dict(within=float(100 * total['right'] / total['count']))
