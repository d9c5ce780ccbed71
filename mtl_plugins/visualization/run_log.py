"""Logs of one JSON object per line that hooks keep in ``<work_dir>/<timestamp>/``; the one of affinities and groups."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtl_plugins.errors import UserError, UserFileNotFoundError
from mtl_plugins.utils.json_files import parse_json


@dataclass(frozen=True)
class RunLog:
    """How to read one kind of log.

    Args:
        name: Name of the files.
        title: What it is, as in "not an entry of TITLE".
        source: Who writes it, as in "SOURCE writes it".
        parse: Checks a decoded line and returns the entry, which has ``iter``; raises ValueError or TypeError.
    """

    name: str
    title: str
    source: str
    parse: Callable[[Any], dict[str, Any]]

    def read(self, path: str | os.PathLike) -> list[dict[str, Any]]:
        """Read one file.

        Returns:
            Its entries in order. A last line that was cut off, as after a kill, is left out.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If another line is not an entry; the message has its number.
        """
        path = Path(path)
        if not path.is_file():
            raise UserFileNotFoundError(f'no file {path}; {self.source} writes <work_dir>/<timestamp>/{self.name}')
        lines = path.read_bytes().split(b'\n')
        entries = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                entries.append(self.parse(parse_json(line, 'it')))
            except (ValueError, TypeError) as error:
                # Only a line without its newline can be half written.
                if number == len(lines):
                    break
                raise UserError(f'{path}, line {number}: not an entry of {self.title}: {error}') from error
        return entries

    def find(self, path: str | os.PathLike) -> list[Path]:
        """Return the log files of a work dir, oldest run first, or the given file itself.

        Raises:
            FileNotFoundError: If there is none.
        """
        path = Path(path)
        if path.is_dir():
            # Run folders are named by their time of start, so that names sort by age.
            logs = sorted({*path.glob(self.name), *path.glob(f'*/{self.name}')})
            if not logs:
                raise UserFileNotFoundError(
                    f'{path} has no {self.name}, neither itself nor in its run folders; {self.source} writes it'
                )
            return logs
        if not path.is_file():
            raise UserFileNotFoundError(f'no file or folder {path}; give a work dir or its {self.name}')
        return [path]

    def read_run(self, path: str | os.PathLike) -> list[dict[str, Any]]:
        """Read a log file, or all logs of a work dir as one: where a later run repeats iterations, it counts.

        Returns:
            The entries by increasing iteration.

        Raises:
            FileNotFoundError: If there is no log.
            ValueError: If a log is broken, or all are empty.
        """
        merged: dict[int, dict[str, Any]] = {}
        for log in self.find(path):
            entries = self.read(log)
            if entries:
                start = entries[0]['iter']
                merged = {iteration: entry for iteration, entry in merged.items() if iteration < start}
                merged.update((entry['iter'], entry) for entry in entries)
        if not merged:
            raise UserError(f'{path}: {self.name} has no entry yet; the first comes after the interval of the hook')
        return [merged[iteration] for iteration in sorted(merged)]


def require(entry: Any, fields: Iterable[str]) -> None:
    """Raise ValueError unless ``entry`` is a dict with all ``fields``."""
    missing = [name for name in fields if not isinstance(entry, dict) or name not in entry]
    if missing:
        raise ValueError(f'{", ".join(missing)} missing')


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
