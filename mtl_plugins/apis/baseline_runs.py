"""One single-task training as a resumable process with a folder of its own."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

import mtl_plugins
from mtl_plugins.engine.checkpoints import write_atomically
from mtl_plugins.engine.hooks.metrics_file import FILE_NAME, read_metrics
from mtl_plugins.task_specs import get_task_spec

from .configs import set_method, set_tasks

METRICS_HOOK = 'mtl_plugins.MetricsFileHook'
SETTINGS = ('model', 'train_dataloader', 'val_dataloader', 'val_evaluator', 'train_cfg', 'optim_wrapper')
SETTINGS += ('param_scheduler', 'auto_scale_lr', 'load_from', 'randomness')
"""Entries of a config in which two runs of the same baseline must agree."""


def single_task_config(cfg: Config, task: str, seed: int) -> Config:
    """The config of the ordinary training (method ``gd``) of one task of ``cfg``, with the same data and schedule.

    Raises:
        KeyError: If the model has no head for the task.
        ValueError: If the config has no validation, whose metric is the baseline.
    """
    cfg = copy.deepcopy(cfg)
    if not cfg.get('val_dataloader') or not cfg.get('val_evaluator'):
        raise ValueError('the config has no val_dataloader and val_evaluator, so there is nothing to take baselines of')
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
    hooks = list(cfg.get('custom_hooks') or [])
    if not any(hook.get('type') == METRICS_HOOK for hook in hooks):
        hooks.append(dict(type=METRICS_HOOK))
    cfg.custom_hooks = hooks
    cfg.randomness = {**(cfg.get('randomness') or {}), 'seed': seed}
    cfg.resume, cfg.launcher = False, 'none'
    cfg.pop('work_dir', None)
    return cfg


def headline(cfg: Config, task: str) -> tuple[str, bool]:
    """Name of the metric that the task is compared by, and whether higher is better."""
    evaluator = cfg.get('val_evaluator')
    own = (evaluator.get('headlines') or {}).get(task, {}) if isinstance(evaluator, Mapping) else {}
    spec = get_task_spec(task)
    return own.get('metric', spec.headline_key), own.get('higher_is_better', spec.higher_is_better)


@dataclass
class BaselineRun:
    """The training of one task with one seed.

    Args:
        task: Task key.
        seed: Seed of the run.
        cfg: Outcome of :func:`single_task_config`.
        root: Folder of all runs; this one gets ``<root>/<task>/seed_<seed>``.
    """

    task: str
    seed: int
    cfg: Config
    root: Path
    _process: subprocess.Popen | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.folder = Path(self.root) / self.task / f'seed_{self.seed}'
        self.metric, self.higher_is_better = headline(self.cfg, self.task)
        self.max_iters = (self.cfg.get('train_cfg') or {}).get('max_iters')
        self.error = ''

    @property
    def name(self) -> str:
        """Task and seed for messages."""
        return f'{self.task}, seed {self.seed}'

    @property
    def log(self) -> Path:
        """What the training prints."""
        return self.folder / 'train.log'

    def prepare(self) -> None:
        """Write the config of the run, or check that what is there belongs to the same settings.

        Raises:
            ValueError: If the folder belongs to a run with other settings; the message names the first difference.
        """
        settings = decisive_settings(self.cfg)
        path = self.folder / 'settings.json'
        if path.is_file():
            change = first_difference(json.loads(path.read_text(encoding='utf-8')), settings)
            if change:
                raise ValueError(
                    f'{self.folder} holds a baseline with other settings ({change}). Remove that folder to train '
                    'anew, or choose another --work-dir'
                )
        else:
            write_atomically(json.dumps(settings, indent=1).encode(), path)
        self._config.parent.mkdir(parents=True, exist_ok=True)
        self.cfg.dump(str(self._config))

    def value(self) -> float | None:
        """The baseline if the run is finished, else None."""
        try:
            return float(json.loads((self.folder / 'result.json').read_text(encoding='utf-8'))['value'])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def start(self, environment: Mapping[str, str]) -> None:
        """Start training in a process of its own, from its newest checkpoint if there is one."""
        command = [sys.executable, '-m', 'mtl_plugins', 'train', str(self._config)]
        command += ['--work-dir', str(self.folder), '--resume']
        package_root = str(Path(mtl_plugins.__file__).parents[1])
        paths = [package_root, *filter(None, [environment.get('PYTHONPATH')])]
        with self.log.open('ab') as log:
            # In a session of its own, so that Ctrl-C does not kill it before it could save.
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**environment, 'PYTHONPATH': os.pathsep.join(paths)},
                start_new_session=True,
            )

    def poll(self) -> bool:
        """Whether the process has ended; if so, :attr:`error` says what went wrong, or is empty."""
        code = self._process.poll()
        if code is None:
            return False
        self._process = None
        self.error = self._problem(code)
        return True

    def stop(self) -> None:
        """Ask the process to save a checkpoint and end, and wait for it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def iteration(self) -> int:
        """The last iteration that was logged."""
        if self.value() is not None:
            return self.max_iters or 0
        logs = sorted(self.folder.glob('*/vis_data/scalars.json'))
        if not logs:
            return 0
        with logs[-1].open('rb') as file:
            file.seek(max(0, logs[-1].stat().st_size - 8192))
            for line in reversed(file.read().splitlines()):
                try:
                    return int(json.loads(line)['iter'])
                except (ValueError, KeyError, TypeError):
                    continue
        return 0

    @property
    def _config(self) -> Path:
        return self.folder / 'config' / f'{self.task}_seed_{self.seed}.py'

    def _problem(self, code: int) -> str:
        if code:
            lines = self.log.read_text(encoding='utf-8', errors='replace').split('\n')
            last = next((line.strip() for line in reversed(lines) if line.strip()), 'no output')
            return f'exit code {code}: {last} (all output: {self.log})'
        entries = read_metrics(self.folder / FILE_NAME)
        if not entries or (self.max_iters is not None and entries[-1]['iter'] != self.max_iters):
            return f'the last validation is missing in {self.folder / FILE_NAME}; remove {self.folder} to train anew'
        value = entries[-1]['metrics'].get(self.metric)
        if not value:
            names = ', '.join(entries[-1]['metrics'])
            found = f'is {value}' if self.metric in entries[-1]['metrics'] else f'is not among {names}'
            return f'{self.metric} {found}, which cannot be a baseline'
        result = dict(task=self.task, seed=self.seed, metric=self.metric, value=value, iterations=entries[-1]['iter'])
        write_atomically((json.dumps(result, indent=1) + '\n').encode(), self.folder / 'result.json')
        return ''


def decisive_settings(cfg: Config) -> dict[str, Any]:
    """The part of a config that decides the outcome of a training, as JSON.

    Our own hooks observe and protect; those of others, such as an EMAHook, may change the weights.
    """
    content = cfg.to_dict()
    settings = {name: content.get(name) for name in SETTINGS}
    hooks = content.get('custom_hooks') or []
    settings['custom_hooks'] = [hook for hook in hooks if not str(hook.get('type')).startswith('mtl_plugins.')]
    return json.loads(json.dumps(settings, default=str))


def first_difference(old: Any, new: Any, place: str = '') -> str:
    """Where two JSON structures differ first, ``'optimizer.lr: 0.1 -> 0.2'``; empty if they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(key, old.get(key), new.get(key)) for key in {**old, **new}]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = list(zip(range(len(old)), old, new))
    else:
        return '' if old == new else f'{place}: {_short(old)} -> {_short(new)}'
    found = (first_difference(a, b, f'{place}.{key}' if place else str(key)) for key, a, b in pairs)
    return next(filter(None, found), '')


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f'{text[:37]}...'


def plan_runs(cfg: Config, tasks: Sequence[str], seeds: Sequence[int], root: Path) -> list[BaselineRun]:
    """All runs, seed by seed, each with its folder prepared."""
    runs = [BaselineRun(task, seed, single_task_config(cfg, task, seed), root) for seed in seeds for task in tasks]
    for run in runs:
        run.prepare()
    return runs
