"""The records of a comparison in the form in which a report looks at them."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtl_plugins.evaluation.delta_m import relative_changes

from .statistics import NAN, Sample, mean_curve

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Task:
    """A task by its headline metric."""

    key: str
    title: str
    metric: str
    unit: str
    higher_is_better: bool


@dataclass(frozen=True)
class Point:
    """One validation of a run.

    Args:
        iteration: When.
        values: Task -> headline metric, NaN where there is none.
        cost: What the training took up to then.
    """

    iteration: int
    values: dict[str, float]
    cost: Mapping[str, float]

    @property
    def compute(self) -> float:
        """Passes so far in units of one iteration of ordinary training, a backward counted as two forwards."""
        forwards, backwards = self.cost.get('forwards') or 0, self.cost.get('backwards') or 0
        return (forwards + 2 * backwards) / 3 if backwards else NAN


@dataclass(frozen=True)
class Run:
    """A finished training."""

    seed: int
    points: tuple[Point, ...]
    groups: Mapping[str, Any] | None
    affinity: Mapping[str, Any] | None
    environment: Mapping[str, Any]

    @property
    def last(self) -> Point:
        """The last validation."""
        return self.points[-1]


@dataclass(frozen=True)
class Reference:
    """What results are measured against.

    Args:
        words: What it is.
        single_task: Whether it is one model per task, so that the mean change is delta_m.
        samples: Task -> values of its runs.
    """

    words: str
    single_task: bool
    samples: dict[str, Sample]

    @property
    def name(self) -> str:
        """Name of the mean change against it."""
        return 'delta_m' if self.single_task else f'mean change against {self.words}'

    def changes(self, values: Mapping[str, float], tasks: Sequence[Task]) -> dict[str, float]:
        """Relative change of each task in percent, positive where better."""
        means = {task: sample.mean for task, sample in self.samples.items()}
        return relative_changes(values, means, {task.key: task.higher_is_better for task in tasks})

    @property
    def error(self) -> float | None:
        """Standard error that the mean change has from this side alone; None if some task has a single run only."""
        if any(sample.error is None for sample in self.samples.values()):
            return None
        parts = [sample.error / sample.mean for sample in self.samples.values()]
        return 100 * math.sqrt(sum(part**2 for part in parts)) / len(parts)


class Variant:
    """All runs of a method with its options.

    Args:
        name: Its name in tables.
        method: Key of the catalogue.
        options: Where it differs from the preset.
        runs: Its runs by seed, at least one.
        tasks: All tasks.
        reference: What it is measured against; None if there is nothing.
    """

    def __init__(
        self,
        name: str,
        method: str,
        options: Mapping[str, Any],
        runs: Sequence[Run],
        tasks: Sequence[Task],
        reference: Reference | None,
    ) -> None:
        self.name = name
        self.method = method
        self.options = dict(options)
        self.runs = list(runs)
        self.tasks = list(tasks)
        self.reference = reference

    @property
    def ordinary(self) -> bool:
        """Whether this is ordinary training, perhaps with several passes per batch."""
        return self.method == 'gd'

    @property
    def passes(self) -> int:
        """Steps on each batch, of ordinary training."""
        return int(self.options.get('passes', 1))

    @property
    def iterations(self) -> int:
        """Length of its runs."""
        return max(run.last.iteration for run in self.runs)

    def result(self, task: str) -> Sample:
        """Headline metric of a task after training."""
        return Sample.of(run.last.values[task] for run in self.runs)

    def change(self, task: str) -> Sample:
        """Relative change of a task against the reference in percent, positive where better."""
        if self.reference is None:
            return Sample((), len(self.runs))
        return Sample.of(self.reference.changes(run.last.values, self.tasks)[task] for run in self.runs)

    @functools.cached_property
    def score(self) -> Sample:
        """delta_m (or the mean change against the other reference) after training."""
        return Sample.of(self.score_of(run.last) for run in self.runs)

    def score_of(self, point: Point) -> float:
        """delta_m at one validation."""
        if self.reference is None:
            return NAN
        changes = self.reference.changes(point.values, self.tasks).values()
        return sum(changes) / len(changes) if changes else NAN

    @property
    def compute(self) -> float:
        """Compute of a whole run, see :attr:`Point.compute`."""
        return Sample.of(run.last.compute for run in self.runs).mean

    @property
    def relative_compute(self) -> float:
        """Compute per iteration, 1 for ordinary training."""
        return self.per_iteration(lambda point: point.compute)

    @property
    def memory(self) -> float:
        """Highest use of memory in MiB."""
        return max((run.last.cost.get('memory_mib') or NAN for run in self.runs), default=NAN)

    @property
    def groups(self) -> Sample:
        """Mean number of groups of each run that has groups."""
        return Sample.of(run.groups['mean'] for run in self.runs if run.groups)

    def per_iteration(self, cost: Any) -> float:
        """Mean of ``cost(last point) / iterations``."""
        return Sample.of(_number(cost(run.last)) / run.last.iteration for run in self.runs).mean

    def curve(self, task: str) -> Curve:
        """Mean headline metric over the iterations."""
        return mean_curve([[(point.iteration, point.values[task]) for point in run.points] for run in self.runs])

    def score_curve(self) -> Curve:
        """Mean delta_m over the iterations."""
        return mean_curve([[(point.iteration, self.score_of(point)) for point in run.points] for run in self.runs])

    def compute_curve(self) -> Curve:
        """Mean delta_m over the compute."""
        compute = mean_curve([[(point.iteration, point.compute) for point in run.points] for run in self.runs])
        return [(x, y) for (_, x), (_, y) in zip(compute, self.score_curve()) if math.isfinite(x)]

    def late_change(self, share: float = 0.2) -> float:
        """How much mean delta_m changed over the last ``share`` of training, which tells whether it was long enough."""
        curve = [(x, y) for x, y in self.score_curve() if math.isfinite(y)]
        if len(curve) < 2:
            return NAN
        end, last = curve[-1]
        start = min(curve[:-1], key=lambda place: abs(place[0] - (1 - share) * end))
        return last - start[1]


def make_run(record: Mapping[str, Any], tasks: Sequence[Task]) -> Run:
    """Read a record; see :class:`mtl_plugins.experiments.compare.RecordStore`."""
    own = [task for task in tasks if record['task'] in (None, task.key)]
    points = tuple(
        Point(entry['iter'], {t.key: _number(entry['metrics'].get(t.metric)) for t in own}, entry.get('cost') or {})
        for entry in record['curve']
    )
    return Run(record['seed'], points, record.get('groups'), record.get('affinity'), record.get('environment') or {})


def _number(value: float | None) -> float:
    return NAN if value is None else float(value)
