"""Writes down the affinity map and the groups of a run, and draws them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mtl_plugins.methods import PositiveAffinity, ProximalAffinity
from mtl_plugins.registry import HOOKS
from mtl_plugins.runtime.hooks.outputs import append_line, going_on_without, is_last
from mtl_plugins.utils.argument_types import Checked, Count, Index, Range

from ..optim_wrappers.selective import SelectiveTaskGroupOptimWrapper, group_strategy
from ..step.guards import bare_model
from .look_ahead import price_line
from .look_aheads import LookAheads

CHECKPOINT_KEY = 'mtl_affinity_probe'


@HOOKS.register_module()
class AffinityHook(Checked, Hook):
    """Logs affinity and groups of group turns; with ``probe_interval``, the proximal affinity under any method.

    Each entry goes as one line to ``<work_dir>/<timestamp>/affinity.jsonl``, and the matrix as scalars
    ``affinity/<source>-><target>`` to the visualizer's backends (never to the console). The pictures
    ``<work_dir>/affinity.png`` (heat map) and ``<work_dir>/groups.png`` (who shared a group when, and how many groups
    there were) are redrawn at every validation and at the end. A resumed run takes the earlier entries over.

    With ``probe_interval`` a measurement tries a step for each task by itself and takes it back bit by bit (see
    :class:`~mtl_plugins.engine.hooks.look_aheads.LookAheads`, kind ``'proximal'``; its price is told before training).
    The map is then this one, and the groups are those that :class:`~mtl_plugins.methods.PositiveAffinity` would make of
    it. STGU, whose groups follow the affinity that it measures itself, is logged as it is: nothing is tried there.

    Of several hooks in one run the last one logs, so that one with ``probe_interval`` may be added to a config that has
    one without.

    Args:
        interval: Iterations between two entries.
        probe_interval: Iterations between two measurements; 0 for none.
        decay: Share of a new measurement in that affinity.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> from mtl_plugins.registry import HOOKS
        >>> HOOKS.build(dict(type='mtl_plugins.AffinityHook', interval=10)).interval
        10
    """

    # After the optimizer step of the iteration, before checkpoints.
    priority = 'NORMAL'

    def __init__(
        self,
        interval: Count = 50,
        probe_interval: Index = 0,
        decay: Annotated[float, Range(0, 1, above=True)] = 1e-2,
    ) -> None:
        if probe_interval:
            # Just before the step: what comes earlier may set the iteration up, its random numbers included.
            self.priority = 'LOWEST'
        self.interval = interval
        self.probe_interval = probe_interval
        self.decay = decay
        self._probe: LookAheads | None = None
        self._probed: ProximalAffinity | None = None
        self._saved: dict[str, Any] | None = None
        self._strategy: SelectiveTaskGroupOptimWrapper | None = None
        self._log: Path | None = None
        self._entries: list[dict[str, Any]] = []
        self._drawn: dict[str, Any] | None = None

    def before_train(self, runner: Any) -> None:
        """Open the log; after a resume, with the entries up to the checkpoint."""
        if not is_last(runner, self, AffinityHook):
            return
        self._strategy = group_strategy(runner.optim_wrapper)
        if self.probe_interval and self._strategy is runner.optim_wrapper and self._strategy.follows_losses:
            runner.logger.info('AffinityHook.probe_interval is without effect: the method measures the affinity itself')
        elif self.probe_interval:
            self._strategy = None  # its map may be another one, or measured in a part of the training only
            self._probe = LookAheads(bare_model(runner.model), runner.optim_wrapper, ['proximal'])
            self._probe.expect(self._saved['tasks'] if self._saved else ())
            runner.logger.info(price_line(['proximal'], self.probe_interval, len(self._probe.tasks)))
        if not is_main_process() or (self._strategy is None and self._probe is None):
            return
        self._entries = self._earlier_entries(runner) if runner.iter > 0 else []
        self._log = Path(runner.log_dir) / 'affinity.jsonl'
        with going_on_without(runner, self._log):
            self._log.parent.mkdir(parents=True, exist_ok=True)
            self._log.write_text(''.join(json.dumps(entry) + '\n' for entry in self._entries))

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Measure under other methods if it is due; all ranks together."""
        if self._probe is None or runner.iter % self.probe_interval:
            return
        gains = self._probe.measure(data_batch).get('proximal')
        if gains is None:
            return
        if self._probed is None or self._probed.num_tasks != len(gains):
            self._probed = ProximalAffinity(len(gains), self.decay)
            if self._saved is not None and len(self._saved['tasks']) == len(gains):
                self._probed.load_state_dict(self._saved['affinity'])
        for task, row in enumerate(gains):
            self._probed.observe([task], torch.ones_like(row), 1 - row, torch.isfinite(row))

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Write an entry if it is due."""
        if self._log is None or not self.every_n_train_iters(runner, self.interval):
            return
        affinity = self._probed if self._strategy is None else self._strategy.affinity
        if affinity is None:
            return
        names = list(self._probe.tasks if self._strategy is None else self._strategy.task_names)
        matrix = affinity.matrix.tolist()
        groups = self._groups(affinity, names)
        entry = dict(iter=runner.iter + 1, tasks=names, affinity=matrix, groups=groups, num_groups=len(groups))
        self._entries.append(entry)
        append_line(runner, self._log, json.dumps(entry))
        runner.visualizer.add_scalars(
            {f'affinity/{s}->{t}': matrix[i][j] for i, s in enumerate(names) for j, t in enumerate(names)},
            step=runner.iter + 1,
        )

    def _groups(self, affinity: ProximalAffinity, names: list[str]) -> list[list[str]]:
        if self._strategy is not None:
            return self._strategy.group_names
        groups = PositiveAffinity()(affinity.matrix, torch.Generator().manual_seed(0))
        return [[names[task] for task in group] for group in groups]

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Keep the affinity that was measured under another method."""
        if self._probed is not None:
            checkpoint[CHECKPOINT_KEY] = dict(tasks=list(self._probe.tasks), affinity=self._probed.state_dict())

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """When resuming, go on from it."""
        self._saved = checkpoint.get(CHECKPOINT_KEY) if runner._resume else None

    def before_val(self, runner: Any) -> None:
        """Redraw the pictures."""
        with going_on_without(runner, 'the pictures of affinity and groups'):
            self._draw(runner)

    def after_train(self, runner: Any) -> None:
        """Redraw the pictures and say where they are."""
        with going_on_without(runner, 'the pictures of affinity and groups'):
            if self._draw(runner):
                runner.logger.info(f'affinity and groups: {runner.work_dir}/affinity.png, {runner.work_dir}/groups.png')

    def _draw(self, runner: Any) -> bool:
        if not self._entries:
            return False
        from mtl_plugins.visualization import draw_affinity, draw_group_timeline, figure_to_rgb
        from mtl_plugins.visualization.backends import picture_services

        last = self._entries[-1]
        if last is self._drawn:  # the end of a run may be a validation, too
            return True
        work_dir = Path(runner.work_dir)
        heat_map = draw_affinity(
            last['affinity'], last['tasks'], f'Affinity after {last["iter"]} iterations', work_dir / 'affinity.png'
        )
        timeline = draw_group_timeline(
            [entry['iter'] for entry in self._entries],
            [entry['groups'] for entry in self._entries],
            last['tasks'],
            work_dir / 'groups.png',
        )
        for service in picture_services(runner.visualizer):
            service.add_image('affinity', figure_to_rgb(heat_map), step=last['iter'])
            service.add_image('groups', figure_to_rgb(timeline), step=last['iter'])
        self._drawn = last
        return True

    @staticmethod
    def _earlier_entries(runner: Any) -> list[dict[str, Any]]:
        from mtl_plugins.visualization import read_affinity_log

        found: dict[int, dict[str, Any]] = {}
        for log in sorted(Path(runner.work_dir).glob('*/affinity.jsonl')):
            for entry in read_affinity_log(log):
                if entry['iter'] <= runner.iter and all(math.isfinite(v) for row in entry['affinity'] for v in row):
                    found[entry['iter']] = entry
        return [found[iteration] for iteration in sorted(found)]
