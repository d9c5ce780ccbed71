"""Reading the log of gradient products that a run with :class:`GradientConflictHook` leaves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .run_log import RunLog, require


@dataclass(frozen=True)
class Conflicts:
    """Products of the tasks' gradients over training.

    Attributes:
        iterations: T numbers of iterations made before the measurement.
        tasks: K names.
        layers: L names of parts of the model, in its order.
        products: ``(T, L, K, K)``; NaN where a task was absent, or a layer was not shared yet.
    """

    iterations: tuple[int, ...]
    tasks: tuple[str, ...]
    layers: tuple[str, ...]
    products: np.ndarray

    def at_depth(self, depth: int) -> Conflicts:
        """The same for larger parts: those that agree in the first ``depth`` pieces of their name are one."""
        return self._merged(['.'.join(layer.split('.')[:depth]) for layer in self.layers])

    def with_at_most(self, layers: int) -> Conflicts:
        """The same in the finest division into parts that has at most ``layers`` of them, or the coarsest there is."""
        deepest = max(layer.count('.') + 1 for layer in self.layers)
        found = (self.at_depth(depth) for depth in range(deepest, 0, -1))
        return next((conflicts for conflicts in found if len(conflicts.layers) <= layers), self.at_depth(1))

    def whole(self) -> Conflicts:
        """The same with all shared parameters as one part."""
        return self._merged(['all shared parameters'] * len(self.layers))

    def cosines(self) -> np.ndarray:
        """``(T, L, K, K)``; NaN where a gradient was absent or zero."""
        norms = np.sqrt(np.diagonal(self.products, axis1=-2, axis2=-1))
        sizes = norms[..., :, None] * norms[..., None, :]
        return np.divide(self.products, sizes, out=np.full_like(sizes, np.nan), where=sizes > 0)

    def _merged(self, names: Sequence[str]) -> Conflicts:
        layers = tuple(dict.fromkeys(names))
        shape = (len(self.iterations), len(layers), len(self.tasks), len(self.tasks))
        products, known = np.zeros(shape), np.zeros(shape, dtype=bool)
        for index, name in enumerate(names):
            place, part = layers.index(name), self.products[:, index]
            products[:, place] += np.nan_to_num(part)
            known[:, place] |= np.isfinite(part)
        return replace(self, layers=layers, products=np.where(known, products, np.nan))


def read_conflicts(path: str | os.PathLike) -> Conflicts:
    """Read a ``conflicts.jsonl``, or all of a work dir as one.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If a log is broken, or all are empty.
    """
    entries = CONFLICT_LOG.read_run(path)
    tasks = tuple(dict.fromkeys(task for entry in entries for task in entry['tasks']))
    # The longest entry knows the order best: a layer may turn out to be shared when a task appears.
    longest = max(entries, key=lambda entry: len(entry['gram']))
    layers = tuple(dict.fromkeys([*longest['gram'], *(layer for entry in entries for layer in entry['gram'])]))
    products = np.full((len(entries), len(layers), len(tasks), len(tasks)), np.nan)
    for time, entry in enumerate(entries):
        places = [tasks.index(task) for task in entry['tasks']]
        upper = np.triu_indices(len(places))
        for layer, values in entry['gram'].items():
            matrix = np.full((len(places),) * 2, np.nan)
            matrix[upper] = values
            matrix.T[upper] = values
            products[time, layers.index(layer)][np.ix_(places, places)] = matrix
    return Conflicts(tuple(entry['iter'] for entry in entries), tasks, layers, products)


def _parse(entry: Any) -> dict[str, Any]:
    require(entry, ('iter', 'tasks', 'gram'))
    count = len(entry['tasks'])
    size = count * (count + 1) // 2
    gram = {layer: np.array(values, dtype=float) for layer, values in entry['gram'].items()}
    wrong = [layer for layer, values in gram.items() if values.shape != (size,)]
    if wrong or not gram:
        raise ValueError(f'gram needs {size} numbers per layer for {count} tasks, but {wrong or "it"} has not')
    return {**entry, 'gram': gram}


CONFLICT_LOG = RunLog(
    'conflicts.jsonl',
    'a log of gradient conflicts',
    "default_hooks=dict(conflicts=dict(type='mtl_plugins.GradientConflictHook')) in the config of a run",
    _parse,
)
