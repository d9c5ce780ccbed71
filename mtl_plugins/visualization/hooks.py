"""Prediction panels at validation and test."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook

from mtl_plugins.registry import HOOKS
from mtl_plugins.structures.fields import entry
from mtl_plugins.task_specs import get_task_specs
from mtl_plugins.utils.argument_types import Checked, Count
from mtl_plugins.utils.files import note_of_others, path_to_write

from .backends import picture_services
from .figure import save_image
from .panels import image_from_inputs, image_title, prediction_panel


@HOOKS.register_module()
class PredictionPanelHook(Checked, Hook):
    """Draws targets beside predictions for a few images, the same ones each time.

    At validation the panels go to ``<work_dir>/panels/iter_<n>/``, in a test to ``<show_dir>/``. The images are spread
    evenly over the dataset. Rank 0 draws alone, hence only images of its own share of the dataset. A picture that
    cannot be written is logged and never ends a run.

    Args:
        interval: Draw at every n-th validation.
        num_panels: Number of images; None draws all.
        show_dir: Folder for the panels of a test, and instead of ``<work_dir>/panels`` at validation. Without it, a
            test draws nothing.
        tasks: Tasks to draw; None takes those of the dataset.
        columns: Most tasks side by side.
        add_to_visualizer: Also hand the pictures to the backends of the runner's visualizer that are services
            (TensorBoard, W&B, MLflow).

    Raises:
        KeyError: If a task is unknown.
        ValueError: If ``interval``, ``num_panels`` or ``columns`` is no whole number of 1 or more.

    Example:
        >>> from mtl_plugins.registry import HOOKS
        >>> HOOKS.build(dict(type='mtl_plugins.PredictionPanelHook', num_panels=6)).num_panels
        6
    """

    # After the evaluator has run, before the checkpoint is written.
    priority = 'NORMAL'

    def __init__(
        self,
        interval: Count = 1,
        num_panels: Count | None = 4,
        show_dir: str | os.PathLike | None = None,
        tasks: Sequence[str] | None = None,
        columns: Count = 6,
        add_to_visualizer: bool = True,
    ) -> None:
        if tasks is not None:
            get_task_specs(tasks)
        self.interval = interval
        self.num_panels = num_panels
        self.show_dir = None if show_dir is None else path_to_write(show_dir, 'PredictionPanelHook.show_dir')
        self.tasks = tasks
        self.columns = columns
        self.add_to_visualizer = add_to_visualizer
        self._validations = 0
        self._wanted: set[int] | None = None
        self._folder: Path | None = None
        self._seen = 0
        self._drawn: set[Path] = set()

    def before_val_epoch(self, runner: Any) -> None:
        """Decide whether this validation is drawn, and where."""
        self._validations += 1
        due = (self._validations - 1) % self.interval == 0
        root = self.show_dir if self.show_dir is not None else Path(runner.work_dir) / 'panels'
        self._start(root / f'iter_{runner.iter:06d}' if due else None, runner.val_dataloader)

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Draw the chosen images of the batch."""
        self._draw_batch(runner, data_batch, outputs)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Say where the panels are."""
        self._finish(runner)

    def before_test_epoch(self, runner: Any) -> None:
        """Decide whether this test is drawn."""
        self._start(self.show_dir, runner.test_dataloader)

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Draw the chosen images of the batch."""
        self._draw_batch(runner, data_batch, outputs)

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Say where the panels are."""
        self._finish(runner)

    def _start(self, folder: Path | None, dataloader: Any) -> None:
        self._folder = folder if is_main_process() else None
        self._seen, self._drawn = 0, set()
        self._wanted = self._choose(len(dataloader.dataset))
        self._meta = getattr(dataloader.dataset, 'metainfo', None) or {}

    def _choose(self, size: int) -> set[int] | None:
        """Return the indices of the chosen images, None for all; rank 0 sees each W-th image of the dataset."""
        if self.num_panels is None:
            return None
        step = get_world_size()
        mine = np.arange(0, size, step)
        return {
            int(mine[i]) for i in np.linspace(0, len(mine) - 1, min(self.num_panels, len(mine))).round().astype(int)
        }

    def _draw_batch(self, runner: Any, data_batch: Any, outputs: Sequence[Any] | None) -> None:
        if self._folder is None:
            return
        for place, sample in enumerate(outputs or ()):
            index = entry(sample, 'sample_idx')
            # Without an index the place in the stream tells the image: evaluation data come in order.
            index = self._seen * get_world_size() if index is None else int(index)
            self._seen += 1
            if self._wanted is None or index in self._wanted:
                self._draw(runner, index, sample, data_batch['inputs'][place])

    def _draw(self, runner: Any, index: int, sample: Any, inputs: Any) -> None:
        tasks = self.tasks if self.tasks is not None else self._meta.get('tasks', ())
        source = str(entry(sample, 'img_path') or '')
        name = '_'.join(dict.fromkeys(part for part in (f'{index:06d}', _file_name(source)) if part))
        title = image_title(sample) or name
        panel = prediction_panel(
            sample, tasks, image=image_from_inputs(inputs), meta=self._meta, columns=self.columns, title=title
        )
        try:
            self._drawn.add(save_image(panel, self._folder / f'{name}.png'))
        except OSError as error:
            runner.logger.warning(f'prediction panel {self._folder / name}.png was not written: {error}')
            return
        if self.add_to_visualizer:
            for service in picture_services(runner.visualizer):
                service.add_image(f'panel_{index:06d}', panel, step=runner.iter)

    def _finish(self, runner: Any) -> None:
        if self._folder is not None and self._drawn:
            runner.logger.info(f'{len(self._drawn)} prediction panels: {self._folder}')
            note = note_of_others(self._folder.glob('*.png'), self._drawn)
            if note:
                runner.logger.warning(note)
        self._folder = None


def _file_name(source: str) -> str:
    """Return the last part of a path without suffix, safe as a part of a file name."""
    return re.sub(r'[^\w.-]+', '_', Path(source).stem)[:60]
