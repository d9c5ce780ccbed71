"""From measured gains to groups of tasks: reading, comparing, solving, and what the groups cost."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor

from mtl_plugins.config.runner import build_runner, run
from mtl_plugins.engine.hooks import LookAheadHook
from mtl_plugins.errors import UserError, UserRuntimeError, refusing
from mtl_plugins.methods.facts import OBJECTIVES
from mtl_plugins.methods.task_groups import LARGEST, TaskGrouping, solve_ptg, solve_tag


@dataclass(frozen=True)
class Gains:
    """A file of gains.

    Args:
        tasks: Names of the K tasks.
        maps: Kind -> float64 ``[K, K]``, row = stepping task, column = affected task; NaN where never measured.
        settings: How they were measured.
    """

    tasks: tuple[str, ...]
    maps: dict[str, Tensor]
    settings: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Gains:
        """Read ``task_gains.json``.

        Raises:
            UserError: If the file is no such thing.
        """
        try:
            found = json.loads(path.read_text(encoding='utf-8'))
            tasks = tuple(str(task) for task in found['tasks'])
            maps = {
                kind: torch.tensor([[math.nan if v is None else v for v in row] for row in rows], dtype=torch.float64)
                for kind, rows in found['gains'].items()
            }
            settings = dict(found['settings'])
        except (OSError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f'{path} is no task_gains.json as LookAheadHook writes it ({type(error).__name__}: {error})'
            ) from error
        wrong = [kind for kind, gains in maps.items() if gains.shape != (len(tasks),) * 2]
        if wrong or not maps or not tasks:
            raise UserError(f'{path}: gains.{(wrong or ["*"])[0]} must hold {len(tasks)} rows of {len(tasks)} numbers')
        unknown = [kind for kind in maps if kind not in OBJECTIVES]
        if unknown:
            raise UserError(
                f'{path}: there are gains of the kinds {", ".join(OBJECTIVES)}, but it holds {unknown[0]!r}'
            )
        if len(set(tasks)) < len(tasks):
            raise UserError(f'{path}: every task must occur once, but tasks are {", ".join(tasks)}')
        return cls(tasks, maps, settings)

    def of(self, tasks: Sequence[str]) -> Gains:
        """The same of some tasks only.

        Raises:
            UserError: If one of them was not measured.
        """
        unknown = [task for task in tasks if task not in self.tasks]
        if unknown:
            raise UserError(f'the maps hold no task {unknown[0]!r}, but {", ".join(self.tasks)}')
        rows = torch.tensor([self.tasks.index(task) for task in tasks])
        return Gains(tuple(tasks), {kind: gains[rows][:, rows] for kind, gains in self.maps.items()}, self.settings)

    def correlations(self) -> dict[tuple[str, str], float]:
        """Spearman's rank correlation of every two maps over the entries off the diagonal that both have."""
        from scipy.stats import spearmanr

        found = {}
        off_diagonal = ~torch.eye(len(self.tasks), dtype=torch.bool)
        for one, other in itertools.combinations(self.maps, 2):
            both = off_diagonal & torch.isfinite(self.maps[one]) & torch.isfinite(self.maps[other])
            first, second = self.maps[one][both], self.maps[other][both]
            if len(first) > 2 and len(first.unique()) > 1 and len(second.unique()) > 1:
                found[one, other] = float(spearmanr(first.numpy(), second.numpy()).statistic)
        return found

    def solve(self, kind: str, **options: Any) -> list[TaskGrouping]:
        """The best groupings by one of the maps.

        Args:
            kind: Which of them.
            **options: Those of :func:`.solve_ptg` and :func:`.solve_tag`; at most three groups where none is given.

        Raises:
            UserError: If there is no such map, an entry was never measured, or the options do not go together.
        """
        if kind not in self.maps:
            raise UserError(f'--by {kind}: that was not measured; there are {", ".join(self.maps)}')
        if not 2 <= len(self.tasks) <= LARGEST:
            hint = ': choose some with --tasks, or make groups by hand with the maps as a guide'
            count = f'there are {len(self.tasks)}{hint}' if len(self.tasks) > 1 else f'there is only {self.tasks[0]}'
            raise UserError(f'groups are made of 2 to {LARGEST} tasks, but {count}')
        missing = (~torch.isfinite(self.maps[kind])).nonzero().tolist()
        if missing:
            source, target = (self.tasks[place] for place in missing[0])
            raise UserError(
                f"{kind}: what a step for '{source}' does to '{target}' was never measured, as they had no labels in "
                'one batch: measure more batches, or leave a task out with --tasks'
            )
        options = {name: value for name, value in options.items() if value is not None}
        options.setdefault('max_groups', min(3, len(self.tasks)))
        if OBJECTIVES[kind] == 'PTG' and 'single' in options:
            raise UserError(
                f"--alone is a score of TAG's, but groups by {kind!r} are made by PTG's objective: leave it out"
            )
        if OBJECTIVES[kind] == 'TAG' and options.get('overlap') and 'num_groups' in options:
            raise UserError('--exactly and --overlap go together for PTG only; TAG has a budget, --groups')
        with refusing('--exactly'):
            return (solve_ptg if OBJECTIVES[kind] == 'PTG' else solve_tag)(self.maps[kind], **options)


class _Measured(Exception):
    """Ends a run whose batches were only looked at."""


class _LookHook(LookAheadHook):
    """Measures on the first batches at the weights that the run begins with, and ends it."""

    def __init__(self, kinds: Sequence[str], batches: int) -> None:
        super().__init__(kinds, interval=1)
        self.batches = batches

    def before_train(self, runner: Runner) -> None:
        """Measure; raises :class:`_Measured`."""
        super().before_train(runner)
        for batch in islice(itertools.cycle(runner.train_dataloader), self.batches):
            self.look(batch)
        self.after_train(runner)
        raise _Measured


def measure(cfg: Config, kinds: Sequence[str], interval: int, checkpoint: str | None, batches: int) -> Path:
    """Measure gains: during a training, or at the weights of a checkpoint.

    Args:
        cfg: Config of the training; its work dir gets the file.
        kinds: What to measure.
        interval: Iterations between two measurements of a training.
        checkpoint: Weights to measure at, with the state of their optimizer if the file has it; None to train.
        batches: Batches to measure on at a checkpoint.

    Returns:
        The file.

    Raises:
        UserRuntimeError: If nothing could be measured.
    """
    if checkpoint is not None:
        cfg.load_from = checkpoint
    runner = build_runner(cfg)
    hook = LookAheadHook(kinds, interval) if checkpoint is None else _LookHook(kinds, batches)
    runner.register_hook(hook)
    with suppress(_Measured):
        run(runner)
    path = Path(runner.work_dir) / 'task_gains.json'
    if not hook.measured:  # a file may be there of another run
        raise UserRuntimeError('nothing was measured: no batch had labels of two tasks that share parameters')
    return path


def parameters_of(cfg: Config) -> tuple[int, dict[str, int]] | None:
    """Shared parameters, and those of each head; None for a model without one head per task."""
    from mtl_plugins.experiments.measuring.methods import build_model

    if not (cfg.get('model') or {}).get('heads'):
        return None
    model = build_model(cfg, torch.device('cpu'))
    heads = dict.fromkeys(cfg.model.heads, 0)
    shared = 0
    for name, parameter in model.named_parameters():
        task = next((task for task in heads if name.startswith(f'heads.{task}.')), None)
        if task is None:
            shared += parameter.numel()
        else:
            heads[task] += parameter.numel()
    return shared, heads


def serving_line(groups: Sequence[Sequence[str]], parameters: tuple[int, Mapping[str, int]] | None) -> str:
    """What it costs to serve one network per group, beside one network for all."""
    forwards = '1 forward' if len(groups) == 1 else f'{len(groups)} forwards'
    line = f'to serve all tasks: {forwards} per image, one per group, in place of 1'
    if parameters is None:
        return line
    shared, heads = parameters
    needed = sum(shared + sum(heads[task] for task in group) for group in groups)
    once = shared + sum(heads.values())
    return f'{line}; {needed:,} parameters in place of {once:,} ({needed / once:.2g} x)'
