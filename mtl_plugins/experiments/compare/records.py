"""What is kept of the runs of a comparison: one JSON file that can be committed and gone on from."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtl_plugins.errors import UserError, UserFileNotFoundError
from mtl_plugins.runtime.checkpoints import write_atomically
from mtl_plugins.runtime.hooks.environment import commit_of, last_stamp
from mtl_plugins.runtime.hooks.metrics_file import FILE_NAME, read_metrics
from mtl_plugins.runtime.hooks.start_record import FILE_NAME as START
from mtl_plugins.utils.json_files import check_form, parse_json, read_json
from mtl_plugins.visualization.run_log import read_run

from .keys import Key, describe_key
from .variants import SINGLE

VERSION = 1
TUNED = 2
"""Version of files with tuned runs, which programs that know version 1 alone would take for others."""
_MOST = 10**12
_NUMBER = (float, int, None)
_HEADER = {
    'config': str,
    'tasks': {...: {'title': str, 'metric': str, 'unit': str, 'higher_is_better': bool}},
    'max_iters': int,
}
_RUNS = [
    {
        'variant': str,
        'method': str,
        'options': {'passes': (int, None), 'compute': (float, int, None), 'time': (float, int, None)},
        'seed': int,
        'task': (str, None),
        'at': ({...: ...}, None),
        'tuning': (bool, None),
        'settings': str,
        'comparable': (str, None),
        'start': ({'weights': str, 'samples': {...: str}}, None),
        'session': ({'started': str, 'jobs': int}, None),
        'curve': [{'iter': int, 'metrics': {...: _NUMBER}, 'cost': ({...: _NUMBER}, None)}],
        'metrics': {...: _NUMBER},
        'groups': ({'mean': (float, int), 'curve': [[(float, int)]], 'together': ([[(float, int)]], None)}, None),
        'affinity': ({'iter': int, 'tasks': [str], 'matrix': [[_NUMBER]]}, None),
        'environment': (
            {
                'commit': (str, None),
                'torch': (str, None),
                'hardware': ({'cpu': (str, None), 'gpus': ([(str, dict)], None)}, None),
            },
            None,
        ),
    }
]
_FAILED = [{'variant': str, 'seed': int, 'task': (str, None), 'at': (str, None), 'tuning': (bool, None), 'error': str}]
_TUNING = {'grid': {...: [...]}, 'share': float, 'seeds': [int], 'shared': (str, None)}


def fingerprint(settings: Any) -> str:
    """A short hash of the settings that decide the outcome of a run."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class RecordStore:
    """The runs of a comparison: records of the finished ones, and why others failed.

    A record has ``variant``, ``method``, ``options``, ``seed``, ``task`` (None, or the only task of a single-task
    model), ``settings`` (a fingerprint), ``comparable`` (that without what changes nothing), ``start`` (hashes, see
    :class:`mtl_plugins.runtime.hooks.StartRecordHook`), ``session``, ``curve`` (``[{"iter", "metrics", "cost"}]``, the
    headline metrics at each validation), ``metrics`` (all of the last one), ``groups`` (None, or ``{"mean", "curve":
    [[iter, M], ...], "together": K x K}``, the last the share of the entries in which two tasks were in one group),
    ``affinity`` (None, or ``{"iter", "tasks", "matrix"}``, the last one) and ``environment``; where settings are tuned
    also ``at`` (those of this run) and ``tuning`` (whether it was scored on the held-out part).

    Attributes:
        records: The finished runs.
        failures: Why others failed when they were last tried.
        tuning: How settings are tuned (``grid``, ``share`` held out, ``seeds``, and ``shared``, the variant whose
            choice all others get, too); None if they are not.
        resolved: Variant -> its options that refer to other variants, as numbers. They are settled once, so that more
            seeds do not change what was trained before.
        session: When this start of the tool was, and how many trainings it makes at a time; for new records.

    Args:
        path: The JSON file; need not exist if there is a header.
        header: What all runs have in common: ``config``, ``tasks`` (task -> title, metric, unit, higher_is_better) and
            ``max_iters``. None takes that of the file.

    Raises:
        FileNotFoundError: If there is neither a header nor a file.
        ValueError: If the file is not such a file, or was made with another header.
    """

    def __init__(self, path: str | os.PathLike, header: Mapping[str, Any] | None) -> None:
        self.path = Path(path)
        self.header = json.loads(json.dumps(dict(version=VERSION, **(header or {}))))
        self.records: dict[Key, dict[str, Any]] = {}
        self.failures: dict[Key, str] = {}
        self.tuning: dict[str, Any] | None = None
        self.resolved: dict[str, dict[str, Any]] = {}
        self.session: dict[str, Any] | None = None
        if self.path.is_file():
            self._load()
        elif header is None:
            raise UserFileNotFoundError(
                f'no results file {self.path}; train something first, or name another by --results'
            )

    def get(self, key: Key, settings: str, comparable: str = '') -> dict[str, Any] | None:
        """The record of a run with the same fingerprint of settings, or of what is comparable in them; or None.

        Raises:
            ValueError: If the run was made with other settings.
        """
        record = self.records.get(key)
        if record is not None and record['settings'] != settings and record.get('comparable') != comparable:
            raise UserError(
                f'{self.path} holds the run {describe_key(key)} with other settings than those of now. Write to '
                'another --results, or remove that run from the file to train it anew'
            )
        return record

    def add(self, record: dict[str, Any]) -> None:
        """Add a record and write the file."""
        key = Key.of(record)
        self.records[key] = json.loads(json.dumps(record))
        self.failures.pop(key, None)
        self.save()

    def note_failure(self, key: Key, error: str) -> None:
        """Keep why a run failed, and write the file."""
        self.failures[key] = error
        self.save()

    def save(self) -> None:
        """Write the file as a whole."""
        tuned = any(key.at or key.tuning for key in self.records)
        content = {**self.header, 'version': TUNED if tuned else VERSION}
        failed = [_failure(key, self.failures[key]) for key in sorted(self.failures, key=Key.order)]
        extra = dict(tuning=self.tuning, resolved=self.resolved, failed=failed)
        content.update({name: value for name, value in extra.items() if value})
        head = json.dumps(content, indent=1, ensure_ascii=False).rstrip('}').rstrip()
        # One run per line, so that a difference shows which runs came in.
        lines = ',\n  '.join(json.dumps(self.records[key]) for key in sorted(self.records, key=Key.order))
        write_atomically(f'{head},\n "runs": [\n  {lines}\n ]\n}}\n'.encode(), self.path)

    def _load(self) -> None:
        try:
            content = parse_json(self.path.read_bytes(), str(self.path))
            extra = {'failed': (_FAILED, None), 'tuning': (_TUNING, None), 'resolved': ({...: {...: ...}}, None)}
            check_form(content, {'runs': _RUNS, **extra, **_HEADER})
            if not (content['tasks'] and 0 < content['max_iters'] < _MOST):
                raise UserError('tasks is empty, or max_iters is no number of iterations')
            for number, run in enumerate(content['runs']):
                affinity = run.get('affinity') or dict(tasks=[], matrix=[])
                if not (run['curve'] and all(0 < entry['iter'] < _MOST for entry in run['curve'])):
                    raise UserError(f'runs[{number}].curve is empty, or has an iter that is no number of iterations')
                if any(len(pair) != 2 for pair in (run.get('groups') or {'curve': []})['curve']):
                    raise UserError(f'runs[{number}].groups.curve is not made of pairs')
                if (run.get('task') is not None) != (run['variant'] == SINGLE):
                    raise UserError(
                        f"runs[{number}].task should be a task for the variant '{SINGLE}' and null for others"
                    )
                if {len(row) for row in [affinity['matrix'], *affinity['matrix']]} != {len(affinity['tasks'])}:
                    raise UserError(f'runs[{number}].affinity.matrix has not one row and one column per task')
                together = (run.get('groups') or {}).get('together')
                if together and {len(row) for row in [together, *together]} != {len(affinity['tasks'])}:
                    raise UserError(f'runs[{number}].groups.together has not one row and one column per task')
        except UserError as error:
            raise UserError(f'{self.path} does not hold the results of a comparison: {error}') from error
        self.records = {Key.of(run): {**run, 'task': run.get('task')} for run in content.pop('runs')}
        self.failures = {Key.of(run): run['error'] for run in content.pop('failed', None) or []}
        self.tuning, self.resolved = content.pop('tuning', None), content.pop('resolved', None) or {}
        if content.get('version') == TUNED:
            content['version'] = VERSION
        for task in content['tasks'].keys() & self.header.get('tasks', {}).keys():
            # Former versions wrote the unit of the default metric, whatever the metric.
            content['tasks'][task]['unit'] = self.header['tasks'][task]['unit']
        for name, value in self.header.items():
            if content.get(name) != value:
                raise UserError(
                    f'{self.path} holds results for another {name} ({content.get(name)!r}, now {value!r}); write to '
                    'another --results'
                )
        if 'tasks' not in self.header:
            self.header = content


def make_record(
    key: Key,
    method: str,
    options: Mapping[str, Any],
    settings: str,
    folder: Path,
    headlines: set[str],
    at: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Read what a finished run left in its folder; see :class:`RecordStore`."""
    entries = read_metrics(folder / FILE_NAME)
    curve = [
        dict(
            iter=entry['iter'],
            metrics={name: _rounded(value) for name, value in entry['metrics'].items() if name in headlines},
            cost=entry['cost'],
        )
        for entry in entries
    ]
    groups, affinity = _groups(folder)
    return dict(
        variant=key.variant,
        method=method,
        options=dict(options),
        seed=key.seed,
        task=key.task,
        **(dict(at=dict(at), tuning=key.tuning) if key.at else {}),
        settings=settings,
        start=read_json(folder / START) if (folder / START).is_file() else None,
        curve=curve,
        metrics={name: _rounded(value) for name, value in entries[-1]['metrics'].items()},
        groups=groups,
        affinity=affinity,
        environment=_environment(folder),
    )


def _failure(key: Key, error: str) -> dict[str, Any]:
    entry = dict(variant=key.variant, seed=key.seed, task=key.task)
    return {**entry, **(dict(at=key.at, tuning=key.tuning) if key.at else {}), 'error': error}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f'{value:.6g}')


def _groups(folder: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    # None: not a method with groups. All empty: the training ended before the first entry.
    if not any(log.stat().st_size for log in folder.glob('*/affinity.jsonl')):
        return None, None
    entries = read_run(folder)
    counts = [entry['num_groups'] for entry in entries]
    stride = max(1, len(entries) // 100)
    last = entries[-1]
    tasks = last['tasks']
    together = np.zeros((len(tasks), len(tasks)))
    for entry in entries:
        for group in entry['groups']:
            places = [tasks.index(task) for task in group]
            together[np.ix_(places, places)] += 1
    groups = dict(
        mean=round(sum(counts) / len(counts), 3),
        curve=[[entry['iter'], entry['num_groups']] for entry in entries[::stride]],
        together=(together / len(entries)).round(3).tolist(),
    )
    matrix = [[_rounded(value) for value in row] for row in last['affinity']]
    return groups, dict(iter=last['iter'], tasks=tasks, matrix=matrix)


def _environment(folder: Path) -> dict[str, Any]:
    """Commit, versions and machine of the last start."""
    stamp = last_stamp(folder)
    return dict(
        commit=commit_of(stamp, 12),
        torch=(stamp.get('packages') or {}).get('torch'),
        hardware=stamp.get('hardware'),
    )
