"""Single-task baselines in a JSON file: what delta_m is measured against, and how it came about."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl_plugins.errors import UserError, UserFileNotFoundError
from mtl_plugins.utils.files import given_path, write_whole
from mtl_plugins.utils.json_files import parse_json

VERSION = 1
_ENTRY = {'metric': str, 'value': (int, float), 'higher_is_better': bool}


def make_baselines(
    tasks: Mapping[str, Mapping[str, Any]],
    *,
    config: str,
    command: str,
    commit: str,
    seeds: Sequence[int],
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Return a valid baselines record.

    Args:
        tasks: Task -> ``{'metric': 'semseg/mIoU', 'value': 41.2, 'higher_is_better': True}``.
        config: Config of the runs.
        command: Command line that made the file.
        commit: Commit of the code.
        seeds: Seeds of the runs.
        versions: Package -> version.

    Raises:
        ValueError: If an entry is not as described.
    """
    record = dict(
        version=VERSION,
        config=str(config),
        command=str(command),
        commit=str(commit),
        seeds=[int(seed) for seed in seeds],
        versions=dict(versions),
        tasks={task: dict(entry) for task, entry in tasks.items()},
    )
    return validate_baselines(record, 'the new baselines')


def load_baselines(path: str | os.PathLike) -> dict[str, Any]:
    """Read and check a baselines file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, or not a baselines record.
    """
    path = given_path(path, 'baselines')
    if not path.is_file():
        raise UserFileNotFoundError(
            f'baselines: no file {path}; make one with `python tools/analysis/single_task_baselines.py CONFIG`, or set '
            'baselines=None to go without delta_m'
        )
    return validate_baselines(parse_json(path.read_bytes(), f'baselines: {path}'), str(path))


def save_baselines(record: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Check a record and write it; the file is replaced as a whole, never left half written.

    Raises:
        ValueError: If the record is not valid.
    """
    path = Path(path)
    text = json.dumps(validate_baselines(record, str(path)), indent=2, allow_nan=False) + '\n'
    write_whole(path, text.encode())


def validate_baselines(record: Any, source: str) -> dict[str, Any]:
    """Return ``record`` as a plain dict after checking its form.

    Args:
        record: What to check.
        source: Where it comes from, for the messages.

    Raises:
        ValueError: If it is not a baselines record; the message names the part.
    """
    if not isinstance(record, Mapping):
        raise UserError(f'baselines ({source}): must be a mapping with an entry "tasks", but got {type(record)}')
    if record.get('version', VERSION) != VERSION:
        raise UserError(
            f'baselines ({source}): version {record["version"]!r} is not supported (this code reads {VERSION}); '
            'make the file anew with tools/analysis/single_task_baselines.py'
        )
    tasks = record.get('tasks')
    if not isinstance(tasks, Mapping) or not tasks:
        raise UserError(f'baselines ({source}): "tasks" must map task names to entries, but got {tasks!r}')
    for task, entry in tasks.items():
        _validate_entry(task, entry, source)
    return {**record, 'tasks': {task: dict(entry) for task, entry in tasks.items()}}


def _validate_entry(task: str, entry: Any, source: str) -> None:
    where = f"baselines ({source}): task '{task}'"
    if not isinstance(entry, Mapping):
        raise UserError(f'{where} must have a mapping with {", ".join(_ENTRY)}, but got {entry!r}')
    for name, kind in _ENTRY.items():
        value = entry.get(name)
        if not isinstance(value, kind) or (name == 'value' and isinstance(value, bool)):
            raise UserError(f'{where} must have a valid "{name}", but got {value!r}')
    if not math.isfinite(entry['value']) or entry['value'] == 0:
        raise UserError(
            f'{where} has the value {entry["value"]!r}, against which no relative change exists; it must be finite and '
            'not 0. Train this baseline again, or leave the task out'
        )
