"""Measures during a training which tasks help each other, by steps that are taken back."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import Tensor

from mtl_plugins.errors import UserError
from mtl_plugins.registry import HOOKS
from mtl_plugins.runtime.hooks.outputs import going_on_without, is_last
from mtl_plugins.utils.argument_types import Checked, Count

from ..step.guards import bare_model
from .look_aheads import LookAheads, check_kinds, count_steps

CHECKPOINT_KEY = 'mtl_look_ahead'


class MeanMaps:
    """Means of maps over batches, entry by entry, over the batches in which an entry was measured.

    Tasks that come later are further rows and columns.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}

    def add(self, maps: Mapping[str, Tensor]) -> None:
        """Count the finite entries of ``{kind: [K, K]}`` in."""
        for kind, values in maps.items():
            finite = torch.isfinite(values)
            for kept, new in ((self.sums, torch.where(finite, values, 0.0)), (self.counts, finite.long())):
                if kind in kept:
                    new[tuple(map(slice, kept[kind].shape))] += kept[kind]
                kept[kind] = new

    def means(self) -> dict[str, Tensor]:
        """The means ``[K, K]`` by kind, NaN where nothing was measured."""
        return {kind: total / self.counts[kind] for kind, total in self.sums.items()}


@HOOKS.register_module()
class LookAheadHook(Checked, Hook):
    """Writes down how steps for single tasks, and for two, change the losses of all; the training stays as it is.

    Before every ``interval``-th iteration the steps are tried on the batch that is about to be trained on, and taken
    back bit by bit, under any method; see :class:`~mtl_plugins.engine.hooks.look_aheads.LookAheads` for what is
    measured and what it costs, which is said before training. ``<work_dir>/task_gains.json`` holds the means over all
    measurements with the settings, and is written at every checkpoint and at the end; a resumed run goes on from the
    checkpoint. ``tools/analysis/group_tasks.py`` makes groups of it. Of several in one run the last one measures.

    Args:
        kinds: What to measure: some of ``'proximal'``, ``'tag'``, ``'ptg'`` and ``'cosine'``.
        interval: Iterations between two measurements.

    Attributes:
        measured: Number of batches that were measured so far.

    Raises:
        UserError: If an argument is out of range, or the optimizer cannot step for one task.
    """

    # Just before the step. What comes earlier may set the iteration up.
    priority = 'LOWEST'

    def __init__(self, kinds: str | Sequence[str] = ('tag',), interval: Count = 10) -> None:
        self.kinds = check_kinds([kinds] if isinstance(kinds, str) else kinds)
        self.interval = interval
        self._probe: LookAheads | None = None
        self._maps = MeanMaps()
        self._tasks: list[str] = []
        self.measured = 0

    def before_train(self, runner: Any) -> None:
        """Set up, and say what it costs.

        Raises:
            UserError: If the checkpoint holds what was measured of other tasks.
        """
        if not is_last(runner, self, LookAheadHook):
            runner.logger.warning(
                f'LookAheadHook of {", ".join(self.kinds)}: left out, for another of this run follows'
            )
            return
        self._probe = LookAheads(bare_model(runner.model), runner.optim_wrapper, self.kinds)
        self._probe.expect(self._tasks)
        runner.logger.info(price_line(self.kinds, self.interval, len(self._probe.tasks)))

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Measure if it is due; all ranks together."""
        if self._probe is not None and runner.iter % self.interval == 0:
            self.look(data_batch)

    def look(self, data_batch: Any) -> None:
        """Measure on a batch; all ranks together."""
        maps = self._probe.measure(data_batch)
        if not maps:
            return
        self._tasks = list(self._probe.tasks)
        self._maps.add(maps)
        self.measured += 1

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Keep what was measured, and write it down."""
        if self._probe is None:
            return
        checkpoint[CHECKPOINT_KEY] = dict(
            tasks=self._tasks,
            measured=self.measured,
            sums=self._maps.sums,
            counts=self._maps.counts,
            kinds=list(self.kinds),
            interval=self.interval,
        )
        self._write(runner)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """When resuming, go on from what was measured.

        Raises:
            UserError: If something else was measured, or at other iterations.
        """
        saved = checkpoint.get(CHECKPOINT_KEY)
        if not runner._resume or saved is None or not is_last(runner, self, LookAheadHook):
            return
        for name, value in (('kinds', list(self.kinds)), ('interval', self.interval)):
            if saved.get(name, value) != value:
                raise UserError(
                    f'LookAheadHook.{name}: {saved[name]} in the checkpoint, {value} now; the means would mix both. '
                    'Resume with the same, or start anew in another folder'
                )
        self._tasks, self.measured = list(saved['tasks']), int(saved['measured'])
        self._maps.sums = {kind: total.cpu() for kind, total in saved['sums'].items() if kind in self.kinds}
        self._maps.counts = {kind: count.cpu() for kind, count in saved['counts'].items() if kind in self.kinds}

    def after_train(self, runner: Any) -> None:
        """Write it down and say where it is."""
        path = self._write(runner)
        if path is not None:
            runner.logger.info(
                f'gains of the tasks: {path}; groups: python tools/analysis/group_tasks.py CONFIG --maps '
                f'{shlex.quote(str(path))}'
            )

    def _write(self, runner: Any) -> Path | None:
        if not self.measured or not is_main_process():
            return None
        path = Path(runner.work_dir) / 'task_gains.json'
        with going_on_without(runner, path):
            path.write_text(gains_as_json(self._tasks, self._maps, describe(runner, self.measured, self.interval)))
        return path


def describe(runner: Any, measured: int, interval: int) -> dict[str, Any]:
    """How gains were measured: plain data for the file."""
    wrapper = runner.optim_wrapper
    return dict(
        measured=measured,
        interval=interval,
        iterations=int(runner.iter),
        method=getattr(wrapper, 'method_name', type(wrapper).__name__),
        batch_size=getattr(runner.train_dataloader, 'batch_size', None),
        processes=int(getattr(runner, 'world_size', 1)),
        optimizer=type(wrapper.optimizer).__name__,
        precision=getattr(getattr(wrapper, 'precision', None), 'name', None),
        rates=[float(group['lr']) for group in wrapper.optimizer.param_groups],
    )


def gains_as_json(tasks: Sequence[str], maps: MeanMaps, settings: Mapping[str, Any]) -> str:
    """The text of a file of gains; row = stepping task, column = affected task, null = never measured."""
    gains = {
        kind: [[None if value != value else value for value in row] for row in mean.tolist()]
        for kind, mean in maps.means().items()
    }
    return json.dumps(dict(tasks=list(tasks), gains=gains, settings=dict(settings)), indent=1, allow_nan=False) + '\n'


def price_line(kinds: Sequence[str], interval: int, num_tasks: int) -> str:
    """What looking ahead costs, in one line."""
    if not num_tasks:
        return (
            f'looking ahead ({", ".join(kinds)}) every {interval} iterations; the price depends on the number of tasks'
        )
    steps = count_steps(kinds, num_tasks)
    extra = (1 + 2 * num_tasks + steps) / 3 / interval
    return (
        f'looking ahead ({", ".join(kinds)}) every {interval} iterations: 1 forward, {num_tasks} backwards and {steps} '
        f'forwards without graph each, memory for {num_tasks} gradients; about {extra:.2g} x an ordinary step per '
        'iteration'
    )
