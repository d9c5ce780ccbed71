"""The files of best models that are in a folder, and how good each was."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .plain_state import from_plain
from .safe_load import safe_torch_load


def best_files(folder: str | Path, key: str, template: str) -> list[Path]:
    """The files that ``CheckpointHook`` saved as the best by one metric, in the order of their names.

    Args:
        folder: Where checkpoints are.
        key: Name of the metric, such as ``'depth/RMSE'``.
        template: Name of a checkpoint with ``{}`` for the number, such as ``'iter_{}.pth'``.
    """
    name = re.escape(f'best_{key}_'.replace('/', '_'))
    pattern = re.compile(name + r'\d+'.join(map(re.escape, template.split('{}'))))
    return sorted(path for path in Path(folder).glob('best_*') if path.is_file() and pattern.fullmatch(path.name))


def score_of(path: Path, name: str) -> Any:
    """The score of a best model, which its message hub has as ``name``; None if it is not there or cannot be read."""
    try:
        return from_plain(safe_torch_load(path, 'cpu'))['message_hub']['runtime_info'][name]
    except Exception:  # whatever is wrong with it, it is no file to go on with
        return None
