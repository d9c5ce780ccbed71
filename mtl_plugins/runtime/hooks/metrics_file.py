"""The metrics of every validation in one small file that other programs can read."""

import json
import math
import os
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mtl_plugins.registry import HOOKS
from mtl_plugins.runtime.checkpoints import write_atomically
from mtl_plugins.utils.json_files import parse_json

from .outputs import METRICS, outputs_of

FILE_NAME = 'metrics.json'
COST = 'mtl_cost'
"""Key in the message hub."""


@HOOKS.register_module()
class MetricsFileHook(Hook):
    """Writes ``<work_dir>/metrics.json``: a list of entries such as::

        {"iter": 500, "metrics": {"depth/RMSE": 0.61}, "cost": {"forwards": 1500, "backwards": 1000, "seconds": 88.1}}

    There is one entry per validation in the order of iterations, and the file is replaced as a whole. A metric that is
    not finite is null, because JSON has no NaN. ``cost`` is what the training took up to then: passes (``forwards``
    with and without graph; the optimizer wrappers of mtl_plugins count them), seconds without the validations, and
    ``memory_mib``, the highest use of memory by the process (on a GPU: by its tensors there). A resumed run keeps the
    entries up to its checkpoint and goes on counting from there, a new run keeps none.
    """

    # After the evaluator, before the checkpoint.
    priority = 'NORMAL'

    def __init__(self) -> None:
        self._unwritten = False
        self._entries: list[dict[str, Any]] = []
        self._spent = dict(forwards=0, backwards=0, seconds=0.0)
        self._began: float | None = None

    def before_train(self, runner: Any) -> None:
        """Drop the entries of iterations that are still to come."""
        if not is_main_process():
            return
        path = Path(runner.work_dir) / FILE_NAME
        found = read_metrics(path)
        self._entries = [entry for entry in found if entry['iter'] <= runner.iter] if runner.iter > 0 else []
        if runner.iter > 0:
            self._spent.update(runner.message_hub.runtime_info.get(COST, {}))
        if len(self._entries) < len(found):
            self._write(runner)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Start the clock, which runs on from here over the loading of data, until the next validation."""
        if self._began is None:
            self._began = time.perf_counter()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Add the passes of this iteration, and leave the sums where checkpoints take them from."""
        scalars = runner.message_hub.log_scalars
        # The wrappers report once per optimizer step, which with gradient accumulation takes several iterations.
        if runner.optim_wrapper.should_update():
            for name in ('forwards', 'backwards'):
                if f'train/{name}' in scalars:
                    self._spent[name] += int(scalars[f'train/{name}'].current())
        self._stop_clock()
        self._began = time.perf_counter()
        runner.message_hub.update_info(COST, dict(self._spent))

    def before_val(self, runner: Any) -> None:
        """Stop the clock."""
        self._stop_clock()

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, Any] | None = None) -> None:
        """Add the metrics of this validation."""
        if not is_main_process():
            return
        entry = dict(
            iter=runner.iter,
            metrics={name: as_number(value) for name, value in (metrics or {}).items()},
            cost={**self._spent, 'seconds': round(self._spent['seconds'], 3), 'memory_mib': _peak_memory_mib()},
        )
        self._entries = [*(old for old in self._entries if old['iter'] < runner.iter), entry]
        self._write(runner)

    def after_train(self, runner: Any) -> None:
        """Try once more what could not be written; :class:`OutputsHook` raises if that fails again."""
        if self._unwritten:
            self._write(runner)

    def _stop_clock(self) -> None:
        if self._began is not None:
            self._spent['seconds'] += time.perf_counter() - self._began
            self._began = None

    def _write(self, runner: Any) -> None:
        text = json.dumps(self._entries, indent=1, allow_nan=False) + '\n'
        try:
            write_atomically(text.encode(), Path(runner.work_dir) / FILE_NAME)
        except OSError as error:
            outputs_of(runner).lost[METRICS] = error
            runner.logger.error(f'The metrics were not written: {error}. The next validation tries again.')
            self._unwritten = True
        else:
            if self._unwritten:
                outputs_of(runner).lost.pop(METRICS, None)
            self._unwritten = False


def _peak_memory_mib() -> float:
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    # Kilobytes on Linux, bytes on macOS.
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == 'darwin' else 2**10), 1)


def as_number(value: Any) -> float | None:
    """``value`` as a float that JSON can hold: None if it is not finite or no single number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read what :class:`MetricsFileHook` wrote.

    Returns:
        The entries, with an empty ``cost`` where there was none; an empty list if the file is absent or foreign.
    """
    try:
        entries = parse_json(Path(path).read_bytes(), str(path))
        return [
            dict(iter=int(entry['iter']), metrics=dict(entry['metrics']), cost=dict(entry.get('cost') or {}))
            for entry in entries
        ]
    except (OSError, ValueError, TypeError, KeyError):
        return []
