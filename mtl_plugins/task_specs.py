"""The one table that describes every dense task.

Datasets, transforms, losses, metrics, painters and the result table all read their settings from here, so that a task
is added in one place: write a :class:`TaskSpec` and call :func:`register_task_spec`.

Conventions inside mtl_plugins (readers of real datasets convert to them):

* targets are arrays ``(H, W)`` or ``(H, W, C)`` in the pipeline and ``(C, H, W)`` tensors afterwards;
* class and binary targets are ``uint8`` with 255 for "not labelled"; all other targets are ``float32`` with NaN for
  "not labelled", and depth <= 0 and zero normals count as not labelled too. 255 never stands for invalid depth or
  normals;
* normals are unit vectors in the camera frame: x right, y up, z towards the viewer.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from mtl_plugins.errors import UserError, UserKeyError
from mtl_plugins.methods.naming import near_matches, near_names

IGNORE_INDEX = 255
NAN = float('nan')
KINDS = ('classes', 'binary', 'depth', 'normals', 'regression')


@dataclass(frozen=True)
class TaskSpec:
    """All that the rest of the package has to know about a task.

    Args:
        key: Name in configs, loss keys and metric prefixes, for example ``'semseg'``.
        title: Name in tables and figures.
        kind: One of :data:`KINDS`; decides validity, post-processing and how a flip acts.
        channels: Channels of the prediction; None for ``'classes'``, where the dataset says how many there are. A
            dataset may store a task of kind ``'regression'`` with another number: it tells so in ``channels`` of its
            samples and meta information, and the head takes ``channels=``.
        unit: Unit of the target, ``''`` if it has none.
        fill: Value that padding writes into the target.
        loss: Default loss, a config for the ``MODELS`` registry.
        metric: Default metric, a config for the ``METRICS`` registry without ``task``.
        headline: The entry of the metric that tables and delta_m use.
        higher_is_better: Direction of ``headline``.
        painter: How predictions and targets are drawn, see :mod:`mtl_plugins.visualization.painters`.
        value_range: Range of values that ``painter`` maps to its colours, None for the range of the shown data. Meta
            information of the dataset overrides it (``value_ranges``).
    """

    key: str
    title: str
    kind: str
    channels: int | None
    headline: str
    higher_is_better: bool
    painter: str
    unit: str = ''
    fill: float = NAN
    loss: dict[str, Any] = field(default_factory=dict)
    metric: dict[str, Any] = field(default_factory=dict)
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"TaskSpec.kind of task '{self.key}' must be one of {KINDS}, but got {self.kind!r}")

    @property
    def is_categorical(self) -> bool:
        """Whether targets are integers with 255 for "not labelled" (otherwise floats with NaN)."""
        return self.kind in ('classes', 'binary')

    @property
    def is_bare(self) -> bool:
        """Whether targets are plain numbers: nothing but their range tells one scale from another."""
        return self.kind == 'regression' and not self.unit

    @property
    def target_channels(self) -> int:
        """Channels of the target: one index map for classes and binary maps, else as many as the prediction has."""
        return 1 if self.is_categorical else int(self.channels)

    @property
    def headline_key(self) -> str:
        """Name of the headline metric among all metrics of a run, for example ``'semseg/mIoU'``."""
        return f'{self.key}/{self.headline}'


def _segmentation(key: str, title: str) -> TaskSpec:
    return TaskSpec(
        key, title, 'classes', None, 'mIoU', True, 'classes', unit='%', fill=IGNORE_INDEX,
        loss=dict(type='mtl_plugins.MaskedCrossEntropyLoss'), metric=dict(type='mtl_plugins.SegmentationMetric'),
    )  # fmt: skip


def _regression(
    key: str, title: str, channels: int = 1, value_range: tuple[float, float] | None = (0.0, 1.0)
) -> TaskSpec:
    return TaskSpec(
        key, title, 'regression', channels, 'L1', False, 'grey' if channels == 1 else 'rgb',
        loss=dict(type='mtl_plugins.MaskedL1Loss'), metric=dict(type='mtl_plugins.RegressionMetric'),
        value_range=value_range,
    )  # fmt: skip


def _depth(key: str, title: str) -> TaskSpec:
    return TaskSpec(
        key, title, 'depth', 1, 'RMSE', False, 'depth', unit='m', fill=0.0,
        loss=dict(type='mtl_plugins.MaskedL1Loss'), metric=dict(type='mtl_plugins.DepthErrorMetric'),
    )  # fmt: skip


def _log_depth(key: str, title: str) -> TaskSpec:
    """Depth as Taskonomy's papers regress it, ``log(1 + 512 m) / log(65536)``: no metres, so not of kind depth."""
    return replace(_regression(key, title, value_range=None), painter='depth')


_BUILT_IN = (
    _segmentation('semseg', 'Semantic segmentation'),
    _depth('depth', 'Depth'),
    TaskSpec(
        'normals', 'Surface normals', 'normals', 3, 'mean', False, 'normals', unit='deg', fill=0.0,
        loss=dict(type='mtl_plugins.NormalsL1Loss'), metric=dict(type='mtl_plugins.NormalsMetric'),
    ),
    TaskSpec(
        'edge', 'Edges', 'binary', 1, 'odsF_greedy', True, 'probability', unit='%', fill=IGNORE_INDEX,
        loss=dict(type='mtl_plugins.MaskedBCELoss', pos_weight=19.0, scale=0.05),
        metric=dict(type='mtl_plugins.EdgeMetric'),
    ),
    TaskSpec(
        'sal', 'Saliency', 'binary', 1, 'maxF', True, 'probability', unit='%', fill=IGNORE_INDEX,
        loss=dict(type='mtl_plugins.MaskedBCELoss'), metric=dict(type='mtl_plugins.SaliencyMetric'),
    ),
    _segmentation('human_parts', 'Human parts'),
    _regression('reshading', 'Reshading'),
    TaskSpec(
        'principal_curvature', 'Principal curvature', 'regression', 2, 'RMSE', False, 'curvature',
        loss=dict(type='mtl_plugins.MaskedMSELoss'), metric=dict(type='mtl_plugins.RegressionMetric'),
    ),
    _regression('edge_texture', 'Texture edges'),
    _regression('keypoints2d', '2D keypoints'),
    _regression('edge_occlusion', 'Occlusion edges'),
    _regression('segment_unsup2d', 'Unsupervised 2D segmentation', channels=3),
    _regression('segment_unsup25d', 'Unsupervised 2.5D segmentation'),
    _regression('keypoints3d', '3D keypoints'),
    _log_depth('depth_euclidean', 'Distance'),
    _log_depth('depth_zbuffer', 'Z-buffer depth'),
    # Taskonomy's normals: the same maps as 'normals', but its papers train them with the cosine and report L1.
    TaskSpec(
        'normal', 'Surface normals (L1)', 'normals', 3, 'L1', False, 'normals', fill=0.0,
        loss=dict(type='mtl_plugins.NormalsCosineLoss'), metric=dict(type='mtl_plugins.RegressionMetric'),
    ),
    _regression('denoise', 'Denoising', channels=3),
    _regression('colorize', 'Colorization', channels=2, value_range=(-1.0, 1.0)),
)  # fmt: skip

_SPECS: dict[str, TaskSpec] = {spec.key: spec for spec in _BUILT_IN}
TASK_SPECS = MappingProxyType(_SPECS)
"""Read-only view of the table: task key -> :class:`TaskSpec`."""


def register_task_spec(spec: TaskSpec, force: bool = False) -> TaskSpec:
    """Add a task to the table.

    Args:
        spec: The new row.
        force: Replace a row of the same key instead of raising.

    Raises:
        KeyError: If the key is taken and ``force`` is False.
    """
    if spec.key in _SPECS and not force:
        raise UserKeyError(f"task '{spec.key}' is already registered; choose another key or pass force=True")
    _SPECS[spec.key] = spec
    return spec


def get_task_spec(key: str) -> TaskSpec:
    """Return the row of task ``key``.

    Raises:
        KeyError: If there is no such task; the message lists the near matches.
    """
    if key not in _SPECS:
        hint = near_matches(key, _SPECS, 'known tasks')
        raise UserKeyError(f"unknown task '{key}': {hint} (own tasks: mtl_plugins.task_specs.register_task_spec)")
    return _SPECS[key]


def get_task_specs(keys: Iterable[str]) -> tuple[TaskSpec, ...]:
    """Return the rows of several tasks, in the given order; see :func:`get_task_spec`."""
    return tuple(get_task_spec(key) for key in keys)


def offered_tasks(owner: str, tasks: Sequence[str], offered: Collection[str]) -> tuple[str, ...]:
    """Return the tasks that were asked of a dataset.

    Args:
        owner: Class of the dataset, for the messages.
        tasks: What was asked for.
        offered: The tasks that it has targets for.

    Raises:
        KeyError: If a task is unknown.
        ValueError: If a known one is not offered, none is asked for, or one twice.
    """
    for task in tasks:
        if task not in offered:
            get_task_spec(task)
            near = near_names(task, offered, 1, 0.6)
            hint = f'; did you mean {near[0]!r}?' if near else '.'
            raise UserError(f"{owner} has no targets for the task '{task}'{hint} It has: {', '.join(offered)}")
    if not tasks or len(set(tasks)) < len(tasks):
        raise UserError(f'{owner}.tasks must name at least one task and each only once, but got {tuple(tasks)}')
    return tuple(tasks)
