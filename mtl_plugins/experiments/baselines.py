"""The trainings that single-task baselines are made of."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mtl_plugins.config.hints import classes_named
from mtl_plugins.config.loading import set_method, set_tasks
from mtl_plugins.errors import UserError
from mtl_plugins.evaluation import MultiTaskEvaluator
from mtl_plugins.registry import EVALUATOR
from mtl_plugins.runtime.checkpoints import write_atomically
from mtl_plugins.task_specs import get_task_spec
from mtl_plugins.utils.json_files import read_json

from .runs import TrainingRun

METRICS_HOOK = 'mtl_plugins.MetricsFileHook'


def single_task_config(cfg: Config, task: str, seed: int) -> Config:
    """The config of the ordinary training (method ``gd``) of one task of ``cfg``, with the same data and schedule.

    Raises:
        KeyError: If the model has no head for the task.
        ValueError: If the config has no validation, whose metric is the baseline.
    """
    cfg = copy.deepcopy(cfg)
    if not cfg.get('val_dataloader') or not cfg.get('val_evaluator'):
        raise UserError('the config has no val_dataloader and val_evaluator, so there is nothing to take baselines of')
    set_method(cfg, 'gd')
    set_tasks(cfg, [task])
    # delta_m cannot exist yet.
    for name in ('val_evaluator', 'test_evaluator'):
        if isinstance(cfg.get(name), dict):
            cfg[name].pop('baselines', None)
            cfg[name].pop('missing', None)
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    if checkpoint.get('save_best'):
        for key in ('save_best', 'rule'):
            checkpoint.pop(key, None)
    settle_run(cfg, seed)
    return cfg


def settle_run(cfg: Config, seed: int) -> None:
    """Make a config that of one of many trainings: with its seed and a file of metrics, from the beginning."""
    add_hooks(cfg, METRICS_HOOK)
    cfg.randomness = {**(cfg.get('randomness') or {}), 'seed': seed}
    cfg.resume, cfg.launcher = False, 'none'
    cfg.pop('work_dir', None)


def add_hooks(cfg: Config, *kinds: str) -> None:
    """Add hooks to a config, those that it does not have."""
    hooks = list(cfg.get('custom_hooks') or [])
    found = {hook.get('type') for hook in hooks}
    cfg.custom_hooks = hooks + [dict(type=kind) for kind in kinds if kind not in found]


def headline(cfg: Config, task: str) -> dict[str, Any]:
    """What a task is compared by: ``metric``, its ``unit``, and whether ``higher_is_better``."""
    evaluator = cfg.get('val_evaluator')
    if isinstance(evaluator, Mapping) and MultiTaskEvaluator in classes_named(evaluator.get('type')):
        own = {name: entry for name, entry in (evaluator.get('headlines') or {}).items() if name == task}
        return EVALUATOR.build({**evaluator, 'tasks': [task], 'headlines': own, 'baselines': None}).headline(task)
    spec = get_task_spec(task)
    return dict(metric=spec.headline_key, higher_is_better=spec.higher_is_better, unit=spec.unit)


class BaselineRun(TrainingRun):
    """The training of one task with one seed.

    Args:
        task: Task key.
        seed: Seed of the run.
        cfg: Outcome of :func:`single_task_config`.
        root: Folder of all runs; this one gets ``<root>/<task>/seed_<seed>``.
    """

    what = 'a baseline'

    def __init__(self, task: str, seed: int, cfg: Config, root: Path) -> None:
        folder = Path(root) / task / f'seed_{seed}'
        super().__init__(f'{task}, seed {seed}', folder, cfg, f'{task}_seed_{seed}.py')
        self.task = task
        self.seed = seed
        entry = headline(cfg, task)
        self.metric, self.higher_is_better = entry['metric'], entry['higher_is_better']

    def value(self) -> float | None:
        """The baseline if the run is finished, else None."""
        try:
            return float(read_json(self.folder / 'result.json')['value'])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def finished(self) -> bool:
        """Whether the baseline is known."""
        return self.value() is not None

    def outcome(self) -> str:
        """The baseline."""
        return f'{self.metric} {self.value():.4g}'

    def conclude(self) -> str:
        """Store the baseline; returns why there is none."""
        problem = super().conclude()
        if problem:
            return problem
        metrics = self.metrics()
        value = metrics.get(self.metric)
        if not value:
            found = f'is {value}' if self.metric in metrics else f'is not among {", ".join(metrics)}'
            return f'{self.metric} {found}, which cannot be a baseline'
        result = dict(task=self.task, seed=self.seed, metric=self.metric, value=value, iterations=self.max_iters)
        write_atomically((json.dumps(result, indent=1) + '\n').encode(), self.folder / 'result.json')
        return ''


def plan_runs(cfg: Config, tasks: Sequence[str], seeds: Sequence[int], root: Path) -> list[BaselineRun]:
    """All runs, seed by seed, each with its folder prepared."""
    runs = [BaselineRun(task, seed, single_task_config(cfg, task, seed), root) for seed in seeds for task in tasks]
    for run in runs:
        run.prepare()
    return runs
