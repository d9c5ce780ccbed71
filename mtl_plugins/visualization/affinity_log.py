"""Reading the log of affinities and groups that a run leaves."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from mtl_plugins.errors import UserError

from .run_log import RunLog, require


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
    return AFFINITY_LOG.read(path)


def read_run(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read a log file, or all logs of a work dir as one: where a resumed run repeats iterations, the later log counts.

    Returns:
        The entries by increasing iteration.

    Raises:
        FileNotFoundError: If there is no log.
        ValueError: If a log is broken, all are empty, or the logs are of different tasks.
    """
    entries = AFFINITY_LOG.read_run(path)
    if any(entry['tasks'] != entries[0]['tasks'] for entry in entries):
        found = sorted({', '.join(entry['tasks']) for entry in entries})
        raise UserError(
            f'{path} holds runs of different tasks ({"; ".join(found)}); give the {AFFINITY_LOG.name} of one of them '
            'instead'
        )
    return entries


def _parse(entry: Any) -> dict[str, Any]:
    require(entry, ('iter', 'tasks', 'affinity', 'groups', 'num_groups'))
    try:
        shape = np.array(entry['affinity'], dtype=float).shape
    except TypeError as error:
        raise ValueError(f'affinity is not a matrix of numbers ({error})') from error
    if shape != (len(entry['tasks']),) * 2:
        raise ValueError(f'affinity has the shape {shape} for {len(entry["tasks"])} tasks')
    return entry


AFFINITY_LOG = RunLog('affinity.jsonl', 'an affinity log', 'training with STGU', _parse)
