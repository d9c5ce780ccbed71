"""The evaluator of several dense tasks: their metrics, delta_m, and one table."""

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement
from rich.table import Table

from mtl_plugins.errors import UserError
from mtl_plugins.registry import EVALUATOR, METRICS
from mtl_plugins.task_specs import TaskSpec, get_task_spec, get_task_specs
from mtl_plugins.utils.argument_types import Checked

from .baselines import load_baselines, validate_baselines
from .delta_m import delta_m, relative_changes
from .metrics.base import DenseMetric
from .result_table import ResultRow, build_table, render_text

HEADLINE = ('metric', 'higher_is_better', 'unit')


@EVALUATOR.register_module()
class MultiTaskEvaluator(Checked, Evaluator):
    """Evaluates all tasks, adds ``delta_m`` to the results and prints a table on rank 0.

    In a config, ``metrics`` must be written even where it is ``'auto'``: MMEngine's Runner builds an evaluator of this
    type only from a dict that has the key::

        val_evaluator = dict(type='mtl_plugins.MultiTaskEvaluator', metrics='auto', baselines='baselines.json')

    With baselines, ``delta_m`` can choose the best checkpoint:
    ``CheckpointHook(save_best='delta_m', rule='greater')``. NaN is never better than anything.

    Args:
        metrics: ``'auto'`` takes the metric of each task from :mod:`mtl_plugins.task_specs`; else a metric or a list of
            metrics (configs or objects).
        tasks: Tasks in the order of the table. None: the dataset's tasks with ``metrics='auto'``, else the tasks of
            the metrics.
        baselines: Path of a baselines file (:mod:`mtl_plugins.evaluation.baselines`), the record itself, or None for no
            ``delta_m``.
        headlines: Task -> ``dict(metric='sal/mIoU', higher_is_better=True, unit='%')`` for tasks whose headline is not
            that of the task table; the direction may be left out where it stays the same, the unit if the metric tells.
        missing: What a task without baseline does: ``'nan'`` makes ``delta_m`` NaN, with a message per evaluation;
            ``'raise'`` refuses at construction (if ``tasks`` is given, else when the dataset is known).
        details: Whether the table lists the other metrics of each task below its headline.

    Attributes:
        table: The rich table of the last evaluation, None before.
        table_text: The same as plain text, ``''`` before.

    Raises:
        KeyError: If a task is unknown.
        ValueError: If the baselines do not fit, see ``missing``, no metric computes the headline of its task, or an
            argument has no valid value.
    """

    def __init__(
        self,
        metrics: str | Mapping | BaseMetric | Sequence = 'auto',
        tasks: Sequence[str] | None = None,
        baselines: str | os.PathLike | Mapping | None = None,
        headlines: Mapping[str, Mapping[str, Any]] | None = None,
        missing: Literal['nan', 'raise'] = 'nan',
        details: bool = False,
    ) -> None:
        if isinstance(metrics, str) and metrics != 'auto':
            raise UserError(f"MultiTaskEvaluator: metrics must be 'auto' or metrics, but got {metrics!r}")
        self.missing = missing
        self.details = details
        self.headlines = {task: dict(entry) for task, entry in (headlines or {}).items()}
        self.baselines = _read_baselines(baselines)
        self.specs: tuple[TaskSpec, ...] = ()
        self.table: Table | None = None
        self.table_text = ''
        self._seconds: dict[str, float] = {}
        self._auto = metrics == 'auto' if isinstance(metrics, str) else False
        super().__init__([] if self._auto else metrics)
        if tasks is None and not self._auto:
            tasks = list(dict.fromkeys(task for task in (getattr(m, 'task', None) for m in self.metrics) if task))
        if tasks is not None:
            self._set_tasks(tasks)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Evaluated tasks, empty as long as they are unknown."""
        return tuple(spec.key for spec in self.specs)

    @property
    def dataset_meta(self) -> dict | None:
        """Meta information of the dataset; setting it passes it on to the metrics."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        if not self.specs:
            tasks = (dataset_meta or {}).get('tasks')
            if not tasks:
                raise UserError(
                    'MultiTaskEvaluator: the tasks to evaluate are unknown; give tasks=[...], or let the dataset name '
                    f"them in metainfo['tasks'] (it has {sorted(dataset_meta or {})})"
                )
            self._set_tasks(tasks)
        self._dataset_meta = dataset_meta
        for metric in self.metrics:
            metric.dataset_meta = dataset_meta

    def process(self, data_samples: Sequence[BaseDataElement], data_batch: Any = None) -> None:
        """Hand the samples to all metrics; see :class:`mmengine.evaluator.Evaluator`."""
        samples = [s.to_dict() if isinstance(s, BaseDataElement) else s for s in data_samples]
        for metric in self.metrics:
            with self._timed(metric):
                metric.process(data_batch, samples)

    @contextmanager
    def _timed(self, metric: BaseMetric) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        name = metric.prefix or type(metric).__name__
        self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - begin

    def _compute(self, size: int) -> dict[str, float]:
        """The values of all metrics."""
        results: dict[str, float] = {}
        for metric in self.metrics:
            with self._timed(metric):
                found = metric.evaluate(size)
            twice = results.keys() & found.keys()
            if twice:
                raise UserError(f'two metrics are called {sorted(twice)[0]}; give them different prefixes')
            results |= found
        return results

    def _shares(self) -> str:
        """How long each metric has taken since the last time, slowest first."""
        seconds, self._seconds = self._seconds, {}
        parts = ', '.join(f'{name} {took:.1f}' for name, took in sorted(seconds.items(), key=lambda each: -each[1]))
        return f'seconds for the metrics: {sum(seconds.values()):.1f} ({parts})'

    def evaluate(self, size: int) -> dict[str, float]:
        """Compute all metrics, add ``delta_m`` if there are baselines; print the table and times on rank 0.

        Args:
            size: Number of samples of the dataset; entries beyond it (padding of the last batch of ranks) are dropped.

        Returns:
            Metric name -> value, equal on all ranks.
        """
        results = self._compute(size)
        headlines = {spec.key: results.get(self.headline(spec.key)['metric'], float('nan')) for spec in self.specs}
        values, directions = self._baseline_values(), self._directions()
        overall = None
        if self.baselines is not None:
            overall = results['delta_m'] = delta_m(headlines, values, directions)
            if math.isnan(overall):
                self._explain_nan(headlines, values)
        changes = relative_changes(headlines, values, directions)
        self.table = build_table(self._rows(results, headlines, values, changes), overall)
        self.table_text = render_text(self.table)
        shares = self._shares()
        if is_main_process():
            print_log(f'\n{self.table_text}\n{shares}', logger='current')
        return results

    def _set_tasks(self, tasks: Sequence[str]) -> None:
        self.specs = get_task_specs(dict.fromkeys(tasks))
        if self._auto:
            self.metrics = [METRICS.build(dict(task=spec.key, **spec.metric)) for spec in self.specs]
        unknown = [task for task in self.headlines if task not in self.tasks]
        if unknown:
            raise UserError(f'MultiTaskEvaluator: headlines names {unknown}, but the tasks are {list(self.tasks)}')
        self._check_headlines()
        self._check_baselines()

    def headline(self, task: str) -> dict[str, Any]:
        """What a task is compared by: ``metric``, its ``unit``, and whether ``higher_is_better``."""
        spec = get_task_spec(task)
        own = self.headlines.get(spec.key, {})
        name = own.get('metric', spec.headline_key)
        unit = self._describe(f'{spec.key}/', name.removeprefix(f'{spec.key}/'))[0] if 'metric' in own else spec.unit
        return dict(metric=name, higher_is_better=spec.higher_is_better, unit=unit) | own

    def _directions(self) -> dict[str, bool]:
        return {spec.key: self.headline(spec.key)['higher_is_better'] for spec in self.specs}

    def _baseline_values(self) -> dict[str, float]:
        return {task: entry['value'] for task, entry in (self.baselines or {}).items()}

    def _check_headlines(self) -> None:
        """A headline that no metric computes would be NaN after hours of training, one of the other direction would
        praise the worst; metrics of others are not known.
        """
        for task, entry in self.headlines.items():
            for name in entry.keys() - {*HEADLINE}:
                raise UserError(
                    f"MultiTaskEvaluator: entries of headlines['{task}'] must be one of {HEADLINE}, but got {name!r}"
                )
        if not all(isinstance(metric, DenseMetric) for metric in self.metrics):
            return
        for spec in self.specs:
            headline = self.headline(spec.key)['metric']
            own = [metric for metric in self.metrics if metric.task == spec.key]
            names = [f'{metric.prefix}/{name}' for metric in own for name in metric.entries]
            if own and headline not in names:
                raise UserError(
                    f"MultiTaskEvaluator: task '{spec.key}' is compared by {headline}, but its metrics compute "
                    f'{", ".join(names)}; name one of these in headlines=dict({spec.key}=dict(metric=...)), or change '
                    'the metric'
                )
            higher = self.headline(spec.key)['higher_is_better']
            if self._describe(f'{spec.key}/', headline.removeprefix(f'{spec.key}/'))[1] is (not higher):
                raise UserError(
                    f"MultiTaskEvaluator: task '{spec.key}' is compared by {headline}, of which "
                    f'{"lower" if higher else "higher"} values are better; say so by '
                    f'headlines=dict({spec.key}=dict(metric={headline!r}, higher_is_better={not higher}))'
                )

    def _check_baselines(self) -> None:
        if self.baselines is None:
            return
        for spec in self.specs:
            entry, headline = self.baselines.get(spec.key), self.headline(spec.key)
            if entry is None:
                if self.missing == 'raise':
                    raise UserError(
                        f"MultiTaskEvaluator: the baselines have no entry for task '{spec.key}' (they have "
                        f"{', '.join(self.baselines)}); add it, or use missing='nan'"
                    )
                continue
            for name in ('metric', 'higher_is_better'):
                if entry[name] != headline[name]:
                    raise UserError(
                        f"MultiTaskEvaluator: task '{spec.key}' is compared by {name}={headline[name]!r}, but its "
                        f'baseline has {name}={entry[name]!r}; change the baselines, or set headlines'
                    )

    def _explain_nan(self, headlines: Mapping[str, float], values: Mapping[str, float]) -> None:
        if not is_main_process():
            return
        reasons = []
        for spec in self.specs:
            name, value = self.headline(spec.key)['metric'], headlines[spec.key]
            if spec.key not in values:
                reasons.append(f"task '{spec.key}' has no baseline")
            elif not math.isfinite(value):
                reasons.append(f"{name} of task '{spec.key}' is {value} (no labelled pixel, or no metric)")
        print_log(f'delta_m is nan: {"; ".join(reasons) or "there is no task"}', 'current', logging.WARNING)

    def _rows(
        self,
        results: Mapping[str, float],
        headlines: Mapping[str, float],
        values: Mapping[str, float],
        changes: Mapping[str, float],
    ) -> list[ResultRow]:
        rows = []
        for spec in self.specs:
            headline = self.headline(spec.key)
            name, prefix = headline['metric'], f'{spec.key}/'
            rows.append(
                ResultRow(
                    spec.title,
                    name.removeprefix(prefix),
                    headlines[spec.key],
                    headline['unit'],
                    headline['higher_is_better'],
                    values.get(spec.key),
                    changes[spec.key] if spec.key in values else None,
                )
            )
            if self.details:
                for key, value in results.items():
                    if key.startswith(prefix) and key != name:
                        metric = key.removeprefix(prefix)
                        rows.append(ResultRow('', metric, value, *self._describe(prefix, metric)))
        return rows

    def _describe(self, prefix: str, name: str) -> tuple[str, bool | None]:
        for metric in self.metrics:
            if f'{metric.prefix}/' == prefix and name in getattr(metric, 'entries', ()):
                return metric.describe(name)
        return '', None


def _read_baselines(baselines: str | os.PathLike | Mapping | None) -> dict[str, dict[str, Any]] | None:
    """Return task -> entry; there may be more tasks than a run evaluates."""
    if baselines is None:
        return None
    if isinstance(baselines, Mapping):
        return validate_baselines(baselines, 'given in the config')['tasks']
    return load_baselines(baselines)['tasks']
