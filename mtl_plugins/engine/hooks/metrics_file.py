"""The metrics of every validation in one small file that other programs can read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mtl_plugins.engine.checkpoints import write_atomically
from mtl_plugins.registry import HOOKS

FILE_NAME = 'metrics.json'


@HOOKS.register_module()
class MetricsFileHook(Hook):
    """Writes ``<work_dir>/metrics.json``: a list of ``{"iter": 500, "metrics": {"depth/RMSE": 0.61, ...}}``.

    There is one entry per validation in the order of iterations, and the file is replaced as a whole. A metric that is
    not finite is null, because JSON has no NaN. A resumed run keeps the entries up to its checkpoint, a new run none.
    """

    # After the evaluator, before the checkpoint.
    priority = 'NORMAL'

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []

    def before_train(self, runner: Any) -> None:
        """Drop the entries of iterations that are still to come."""
        if not is_main_process():
            return
        path = Path(runner.work_dir) / FILE_NAME
        found = read_metrics(path)
        self._entries = [entry for entry in found if entry['iter'] <= runner.iter] if runner.iter > 0 else []
        if len(self._entries) < len(found):
            self._write(path)

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, Any] | None = None) -> None:
        """Add the metrics of this validation."""
        if not is_main_process():
            return
        entry = dict(iter=runner.iter, metrics={name: as_number(value) for name, value in (metrics or {}).items()})
        self._entries = [*(old for old in self._entries if old['iter'] < runner.iter), entry]
        self._write(Path(runner.work_dir) / FILE_NAME)

    def _write(self, path: Path) -> None:
        write_atomically((json.dumps(self._entries, indent=1, allow_nan=False) + '\n').encode(), path)


def as_number(value: Any) -> float | None:
    """``value`` as a float that JSON can hold: None if it is not finite or no single number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read what :class:`MetricsFileHook` wrote; an absent or foreign file gives an empty list."""
    try:
        entries = json.loads(Path(path).read_text(encoding='utf-8'))
        return [dict(iter=int(entry['iter']), metrics=dict(entry['metrics'])) for entry in entries]
    except (OSError, ValueError, TypeError, KeyError):
        return []
