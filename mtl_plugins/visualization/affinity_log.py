"""Reading the log of affinities and groups that a run leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

LOG_NAME = 'affinity.jsonl'
_FIELDS = ('iter', 'tasks', 'affinity', 'groups', 'num_groups')


def read_affinity_log(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read one ``affinity.jsonl``.

    Args:
        path: The file.

    Returns:
        Its entries in the order of the file: dicts with ``iter`` (int), ``tasks`` (K names), ``affinity`` (K lists of K
        numbers, row = stepping task, column = affected task), ``groups`` (lists of names) and ``num_groups``. A last
        line that was cut off, as after a kill, is left out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If another line is not such an entry; the message has its number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no affinity log {path}; runs of STGU write <work_dir>/<timestamp>/{LOG_NAME}')
    lines = path.read_bytes().split(b'\n')
    entries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entries.append(_parse(line))
        except ValueError as error:
            # Only a line without its newline can be half written.
            if number == len(lines):
                break
            raise ValueError(f'{path}, line {number}: not an entry of an affinity log: {error}') from error
    return entries


def read_run(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read a log file, or all logs of a work dir as one: where a resumed run repeats iterations, the later log counts.

    Returns:
        The entries by increasing iteration.

    Raises:
        FileNotFoundError: If there is no log.
        ValueError: If a log is broken, all are empty, or the logs are of different tasks.
    """
    path = Path(path)
    logs = find_logs(path)
    merged: dict[int, dict[str, Any]] = {}
    for log in logs:
        entries = read_affinity_log(log)
        if entries:
            start = entries[0]['iter']
            merged = {iteration: entry for iteration, entry in merged.items() if iteration < start}
            merged.update((entry['iter'], entry) for entry in entries)
    if not merged:
        raise ValueError(f'{path} has no entry yet; the first comes after the logging interval of the affinity hook')
    entries = [merged[iteration] for iteration in sorted(merged)]
    if any(entry['tasks'] != entries[0]['tasks'] for entry in entries):
        found = sorted({', '.join(entry['tasks']) for entry in entries})
        raise ValueError(
            f'{path} holds runs of different tasks ({"; ".join(found)}); give the {LOG_NAME} of one of them instead'
        )
    return entries


def find_logs(path: str | os.PathLike) -> list[Path]:
    """Return the log files of a work dir, oldest run first, or the given file itself.

    Raises:
        FileNotFoundError: If there is none.
    """
    path = Path(path)
    if path.is_dir():
        # Run folders are named by their time of start, so that names sort by age.
        logs = sorted({*path.glob(LOG_NAME), *path.glob(f'*/{LOG_NAME}')})
        if not logs:
            raise FileNotFoundError(
                f'{path} has no {LOG_NAME}, neither itself nor in its run folders; is it the work dir of an STGU run?'
            )
        return logs
    if not path.is_file():
        raise FileNotFoundError(f'no file or folder {path}; give a work dir or an {LOG_NAME}')
    return [path]


def _parse(line: bytes) -> dict[str, Any]:
    entry = json.loads(line)
    missing = [name for name in _FIELDS if not isinstance(entry, dict) or name not in entry]
    if missing:
        raise ValueError(f'{", ".join(missing)} missing')
    try:
        shape = np.array(entry['affinity'], dtype=float).shape
    except TypeError as error:
        raise ValueError(f'affinity is not a matrix of numbers ({error})') from error
    if shape != (len(entry['tasks']),) * 2:
        raise ValueError(f'affinity has the shape {shape} for {len(entry["tasks"])} tasks')
    return entry
