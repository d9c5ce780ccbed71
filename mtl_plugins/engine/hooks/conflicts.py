"""Writes down how well the gradients of the tasks agree, layer by layer."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import Tensor

from mtl_plugins.registry import HOOKS
from mtl_plugins.runtime.hooks.outputs import append_line, going_on_without
from mtl_plugins.utils.argument_types import Checked, Count

from ..step.guards import bare_model
from .task_grams import GramProbe


@HOOKS.register_module()
class GradientConflictHook(Checked, Hook):
    """Logs the scalar products of the tasks' gradients; changes nothing in the training, under any method.

    Before every ``interval``-th iteration, the loss of each task is differentiated by itself at the present weights, on
    the batch that is about to be trained on. Entries go to ``<work_dir>/<timestamp>/conflicts.jsonl``, one JSON object
    per line::

        {"iter": 50, "tasks": ["a", "b"], "gram": {"backbone.0": [2.1, -0.3, 1.7], ...}}

    ``iter`` is the number of iterations made before. ``gram`` holds for each layer with shared parameters the upper
    triangle of the symmetric matrix of products, row by row with the diagonal (squared norms); null where a task has
    no label in the batch. Products of single layers add up to those of larger parts. The cosines over all shared
    parameters and the share of pairs of tasks in conflict (cosine below zero) go as scalars ``cosine/<a>|<b>`` and
    ``conflict_rate`` to the visualizer's backends. ``tools/analysis/plot_conflicts.py`` draws the log.

    A measurement takes one forward and K backwards, and memory for the K gradients of the shared parameters. On several
    ranks the gradients are averaged first; with ``accumulative_counts`` they are those of one micro-batch.

    Args:
        interval: Iterations between two measurements.

    Raises:
        ValueError: If ``interval`` is not positive.
    """

    # Just before the step. What comes earlier may set the iteration up.
    priority = 'LOWEST'

    def __init__(self, interval: Count = 50) -> None:
        self.interval = interval
        self._probe: GramProbe | None = None
        self._log: Path | None = None

    def before_train(self, runner: Any) -> None:
        """Set up; refuses what has no gradients of single tasks.

        Raises:
            TypeError: See :func:`mtl_plugins.engine.step.guards.bare_model`.
        """
        self._probe = GramProbe(bare_model(runner.model), runner.optim_wrapper)
        if is_main_process():
            self._log = Path(runner.log_dir) / 'conflicts.jsonl'
            with going_on_without(runner, self._log):
                self._log.parent.mkdir(parents=True, exist_ok=True)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Measure if it is due; all ranks together."""
        if runner.iter % self.interval:
            return
        products = self._probe.measure(data_batch)
        if self._log is None or not products:
            return
        tasks = self._probe.tasks
        entry = dict(
            iter=runner.iter,
            tasks=list(tasks),
            gram={layer: _upper_triangle(matrix) for layer, matrix in products.items()},
        )
        append_line(runner, self._log, json.dumps(entry, allow_nan=False))
        runner.visualizer.add_scalars(_scalars(tasks, products), step=runner.iter)

    def after_train(self, runner: Any) -> None:
        """Say how to look at the log."""
        if self._log is not None and self._log.is_file():
            runner.logger.info(f'gradient conflicts: python tools/analysis/plot_conflicts.py {runner.work_dir}')


def _upper_triangle(matrix: Tensor) -> list[float | None]:
    rows, columns = torch.triu_indices(*matrix.shape)
    return [float(f'{value:.6g}') if math.isfinite(value) else None for value in matrix[rows, columns].tolist()]


def _scalars(tasks: tuple[str, ...], products: dict[str, Tensor]) -> dict[str, float]:
    whole = torch.stack(list(products.values())).sum(0)
    norms = whole.diagonal().sqrt()
    cosines = whole / torch.outer(norms, norms)
    found = {f'cosine/{a}|{b}': cosines[i, j].item() for (i, a), (j, b) in itertools.combinations(enumerate(tasks), 2)}
    found = {name: value for name, value in found.items() if math.isfinite(value)}
    return {**found, 'conflict_rate': sum(value < 0 for value in found.values()) / len(found)} if found else {}
