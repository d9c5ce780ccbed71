"""Where and when the gradients of the tasks point against each other: the log that a run leaves, and its pictures."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from mtl_plugins.errors import UserError

from .affinity import colour_limit, draw_task_map
from .figure import TICK_SIZE
from .heat_map import draw_heat_map
from .run_log import RunLog, require

# Purple is disagreement, as in the pictures of affinity. White itself would be lost on the page.
_RATE_COLOURS = ListedColormap(matplotlib.colormaps['Purples'](np.linspace(0.06, 1, 256)))

MAX_COLUMNS = 10
MAX_ROWS = 40


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


def draw_mean_cosines(conflicts: Conflicts, path: str | os.PathLike | None = None) -> Figure:
    """Draw the cosine between the gradients of every two tasks, the mean over all measurements.

    The gradients are those of all shared parameters together.
    """
    matrix = _mean(conflicts.whole().cosines()[:, 0], axis=0)
    np.fill_diagonal(matrix, np.nan)
    return draw_task_map(
        matrix,
        conflicts.tasks,
        colour_limit(matrix),
        title='Cosine between the gradients of two tasks',
        note=f'All shared parameters, {_when(conflicts)}; negative: conflict',
        axis_titles=('', ''),
        bar_title='mean cosine',
        tick='{:.2f}'.format,
        cell='{:.2f}'.format,
        path=path,
    )


def draw_layer_conflicts(conflicts: Conflicts, path: str | os.PathLike | None = None) -> Figure:
    """Draw for every part of the model how many pairs of tasks are in conflict there, over time."""
    cosines = _pairs(conflicts.cosines())
    rates = _over_time(conflicts, np.moveaxis(cosines, 0, 1))
    prefix = common_prefix(conflicts.layers)
    names = [layer.removeprefix(prefix) for layer in conflicts.layers]
    kept = range(len(names))
    if len(names) > MAX_ROWS:
        kept = np.unique(np.linspace(0, len(names) - 1, MAX_ROWS).round().astype(int))
    note = 'Share of pairs of tasks with a negative cosine (unrelated gradients: 50 %); input at the top'
    note += f'; parts of {prefix.rstrip(".")}' if prefix else ''
    note += f'; {len(kept)} of {len(names)} parts' if len(kept) < len(names) else ''
    return _draw_rates(conflicts, rates[kept], [names[index] for index in kept], 'Conflicts by layer', note, path)


def draw_pair_conflicts(conflicts: Conflicts, path: str | os.PathLike | None = None) -> Figure:
    """Draw for every pair of tasks how often it is in conflict, over time; the worst pairs first.

    Raises:
        ValueError: If there is one task only.
    """
    if len(conflicts.tasks) < 2:
        raise UserError(f'conflicts are between two tasks, but the log has only {", ".join(conflicts.tasks)}')
    cosines = _pairs(conflicts.whole().cosines())[:, 0]
    rates = _over_time(conflicts, cosines.T[..., None])
    names = [f'{a} | {b}' for a, b in itertools.combinations(conflicts.tasks, 2)]
    order = np.argsort(-np.nan_to_num(rates[:, -1], nan=-1.0), kind='stable')[:MAX_ROWS]
    note = 'Share of measurements with a negative cosine, all shared parameters'
    note += f'; the {len(order)} worst of {len(names)} pairs' if len(order) < len(names) else ''
    return _draw_rates(conflicts, rates[order], [names[index] for index in order], 'Conflicts by pair', note, path)


def common_prefix(names: tuple[str, ...]) -> str:
    """The modules that all names lie in, with the dot; '' if there are none, or a name is that module itself."""
    common = []
    for parts in zip(*(name.split('.')[:-1] for name in names)):
        if len(set(parts)) > 1:
            break
        common.append(f'{parts[0]}.')
    return ''.join(common)


def _draw_rates(
    conflicts: Conflicts, rates: np.ndarray, rows: list[str], title: str, note: str, path: str | os.PathLike | None
) -> Figure:
    columns = [str(conflicts.iterations[chunk[0]]) for chunk in _chunks(conflicts)]
    per_column = max(len(chunk) for chunk in _chunks(conflicts))
    step = f'{per_column} measurements from there on' if per_column > 1 else 'one measurement'
    return draw_heat_map(
        100 * rates,
        rows,
        [*columns, 'all'],
        title=title,
        note=note,
        axis_titles=(f'iterations made before (a column is {step})', ''),
        bar_title='in conflict (%)',
        colours=_RATE_COLOURS,
        limits=(0, 100),
        tick='{:.0f}'.format,
        cell='{:.0f}'.format,
        cell_size=(48, 22),
        text_size=TICK_SIZE,
        summary_column=True,
        path=path,
    )


def _pairs(cosines: np.ndarray) -> np.ndarray:
    """``(T, L, K, K)`` -> ``(T, L, P)``."""
    rows, columns = np.triu_indices(cosines.shape[-1], 1)
    return cosines[..., rows, columns]


def _over_time(conflicts: Conflicts, cosines: np.ndarray) -> np.ndarray:
    """``(R, T, P)`` -> ``(R, C + 1)``: the shares of negative ones per column, and over all."""
    everything = [*_chunks(conflicts), range(len(conflicts.iterations))]
    signs = np.where(np.isfinite(cosines), (cosines < 0).astype(float), np.nan)
    return np.stack([_mean(signs[:, list(chunk)], axis=(1, 2)) for chunk in everything], axis=1)


def _chunks(conflicts: Conflicts) -> list[range]:
    count = len(conflicts.iterations)
    size = -(-count // MAX_COLUMNS)
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def _mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    known = np.isfinite(values)
    count = known.sum(axis)
    total = np.where(known, values, 0.0).sum(axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _when(conflicts: Conflicts) -> str:
    first, last = conflicts.iterations[0], conflicts.iterations[-1]
    if first == last:
        return f'at iteration {first}'
    return f'mean over iterations {first} to {last}'


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
