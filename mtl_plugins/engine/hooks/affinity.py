"""Writes down the affinity map and the groups of a run, and draws them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mtl_plugins.errors import UserError
from mtl_plugins.registry import HOOKS
from mtl_plugins.runtime.hooks.outputs import append_line, going_on_without

from ..optim_wrappers.selective import SelectiveTaskGroupOptimWrapper, group_strategy


@HOOKS.register_module()
class AffinityHook(Hook):
    """Logs affinity and groups of STGU; does nothing for other methods.

    Each entry goes as one line to ``<work_dir>/<timestamp>/affinity.jsonl``, and the matrix as scalars
    ``affinity/<source>-><target>`` to the visualizer's backends (never to the console). The pictures
    ``<work_dir>/affinity.png`` (heat map) and ``<work_dir>/groups.png`` (who shared a group when, and how many groups
    there were) are redrawn at every validation and at the end. A resumed run takes the earlier entries over.

    Args:
        interval: Iterations between two entries.

    Raises:
        ValueError: If ``interval`` is not positive.

    Example:
        >>> from mtl_plugins.registry import HOOKS
        >>> HOOKS.build(dict(type='mtl_plugins.AffinityHook', interval=10)).interval
        10
    """

    # After the optimizer step of the iteration, before checkpoints.
    priority = 'NORMAL'

    def __init__(self, interval: int = 50) -> None:
        if interval < 1:
            raise UserError(f'AffinityHook.interval must be >= 1, but got {interval}')
        self.interval = interval
        self._strategy: SelectiveTaskGroupOptimWrapper | None = None
        self._log: Path | None = None
        self._entries: list[dict[str, Any]] = []

    def before_train(self, runner: Any) -> None:
        """Open the log; after a resume, with the entries up to the checkpoint."""
        self._strategy = group_strategy(runner.optim_wrapper)
        if not is_main_process() or self._strategy is None:
            return
        self._entries = self._earlier_entries(runner) if runner.iter > 0 else []
        self._log = Path(runner.log_dir) / 'affinity.jsonl'
        with going_on_without(runner, self._log):
            self._log.parent.mkdir(parents=True, exist_ok=True)
            self._log.write_text(''.join(json.dumps(entry) + '\n' for entry in self._entries))

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Write an entry if it is due."""
        if self._log is None or not self.every_n_train_iters(runner, self.interval):
            return
        wrapper = self._strategy
        if wrapper.affinity is None:
            return
        matrix = wrapper.affinity.matrix.tolist()
        entry = dict(
            iter=runner.iter + 1,
            tasks=list(wrapper.task_names),
            affinity=matrix,
            groups=wrapper.group_names,
            num_groups=len(wrapper.groups),
        )
        self._entries.append(entry)
        append_line(runner, self._log, json.dumps(entry))
        names = wrapper.task_names
        runner.visualizer.add_scalars(
            {f'affinity/{s}->{t}': matrix[i][j] for i, s in enumerate(names) for j, t in enumerate(names)},
            step=runner.iter + 1,
        )

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
