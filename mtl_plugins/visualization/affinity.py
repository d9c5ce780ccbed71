"""Heat map, curves and panels of the affinity between tasks."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from mtl_plugins.errors import UserError

from .figure import FAINT, INK, LABEL_SIZE, MUTED, TICK_SIZE, clean, distinct_colours, finished, new_chart
from .heat_map import draw_heat_map

COLOUR_MAP = 'PuOr_r'
"""Diverging from purple over white to orange: told apart with any colour vision."""

_STYLES = ('-', '--', '-.')
_PANEL = 220, 160
"""Width and height of one of several panels in pixels."""
_RAISED = str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')


def draw_affinity(
    affinity: ArrayLike, tasks: Sequence[str], title: str = 'Task affinity', path: str | os.PathLike | None = None
) -> Figure:
    """Draw the affinity matrix as a heat map with the numbers in the cells.

    Colours are symmetric about 0 and span the entries off the diagonal; the effect of a task on itself is often much
    larger and would bleach all others, so it is written but saturates. All numbers carry one power of ten, named at
    the colour bar.

    Args:
        affinity: ``(K, K)``; entry (i, j) is the effect of a step for task i (row) on task j (column). NaN is drawn as
            "not measured".
        tasks: Names of the K tasks.
        title: Heading.
        path: PNG file to write, None for none.

    Returns:
        The figure, see :func:`mtl_plugins.visualization.figure.figure_to_rgb`.

    Raises:
        ValueError: If the matrix is not ``(K, K)``.
    """
    matrix = _checked(affinity, tasks)
    limit = colour_limit(matrix)
    power = _power_of_ten(limit)

    def cell(value: float) -> str:
        scaled = value / 10.0**power
        return f'{scaled:.2f}' if abs(scaled) < 10 else f'{scaled:.3g}'

    return draw_task_map(
        matrix,
        tasks,
        limit,
        title=title,
        note='Positive: a step for the row task helps the column task',
        axis_titles=('affected task', 'stepping task'),
        bar_title='affinity' + (f' (×10{str(power).translate(_RAISED)})' if power else ''),
        tick=lambda value: f'{value / 10.0**power:.2g}',
        cell=cell,
        extend='both',
        path=path,
    )


def draw_task_map(matrix: np.ndarray, tasks: Sequence[str], limit: float, **options: Any) -> Figure:
    """Draw ``(K, K)`` numbers about the K tasks as a heat map, in colours that are symmetric about 0.

    Args:
        matrix: The numbers.
        tasks: Names of the rows, and of the columns.
        limit: Number at either end of the colours.
        **options: Further arguments of :func:`~.heat_map.draw_heat_map`.
    """
    side = 84 if len(tasks) <= 3 else 58 if len(tasks) <= 6 else 50
    look = dict(colours=COLOUR_MAP, cell_size=(side, side), text_size=LABEL_SIZE if len(tasks) <= 6 else TICK_SIZE)
    return draw_heat_map(matrix, tasks, tasks, limits=(-limit, limit), **look, **options)


def draw_affinity_curves(
    iterations: Sequence[int],
    affinity: ArrayLike,
    tasks: Sequence[str],
    pairs: Sequence[tuple[str, str]] | None = None,
    title: str = 'Task affinity over time',
    path: str | os.PathLike | None = None,
) -> Figure:
    """Draw how the affinity of chosen pairs develops.

    Args:
        iterations: T iteration numbers.
        affinity: ``(T, K, K)``, see :func:`draw_affinity`.
        tasks: Names of the K tasks.
        pairs: (stepping task, affected task), at most twelve. None: :func:`strongest_pairs`.
        title: Heading.
        path: PNG file to write, None for none.

    Raises:
        ValueError: If a pair names an unknown task, if there are too many, or if the shapes do not fit.
    """
    history = checked_history(iterations, affinity, tasks)
    pairs = strongest_pairs(history, tasks) if pairs is None else list(pairs)
    unknown = sorted({name for pair in pairs for name in pair if name not in tasks})
    if unknown:
        raise UserError(f'pairs name {", ".join(unknown)}, but the tasks are {", ".join(tasks)}')
    if not 0 < len(pairs) <= 12:
        raise UserError(f'between 1 and 12 pairs can be told apart in one figure, but got {len(pairs)}')
    labels = [f'{source} → {target}' for source, target in pairs]
    figure, axes = new_chart(820, 354, title, 'Positive: a step for the first task helps the second')
    axes.axhline(0, color=MUTED, linewidth=0.8)
    positions = {task: index for index, task in enumerate(tasks)}
    marker = 'o' if len(iterations) == 1 else None
    for index, ((source, target), colour) in enumerate(zip(pairs, distinct_colours(len(pairs)))):
        values = history[:, positions[source], positions[target]]
        style = _STYLES[index % len(_STYLES)]
        axes.plot(iterations, values, color=colour, linewidth=1.6, linestyle=style, marker=marker, label=labels[index])
    clean(axes)
    axes.grid(axis='y', color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    axes.ticklabel_format(axis='y', style='sci', scilimits=(-2, 3), useMathText=True)
    axes.yaxis.get_offset_text().set_fontsize(TICK_SIZE)
    axes.set_xlabel('iteration', fontsize=LABEL_SIZE, color=MUTED)
    axes.set_ylabel('affinity', fontsize=LABEL_SIZE, color=MUTED)
    figure.legend(loc='outside right upper', frameon=False, fontsize=TICK_SIZE, handlelength=2.4, labelcolor=INK)
    return finished(figure, path)


def draw_affinity_panels(
    iterations: Sequence[int],
    affinity: ArrayLike,
    tasks: Sequence[str],
    title: str = 'What steps for other tasks do to each task',
    path: str | os.PathLike | None = None,
) -> Figure:
    """Draw all entries off the diagonal over time; all panels have the same scale.

    Args:
        iterations: T iteration numbers.
        affinity: ``(T, K, K)``, row = stepping task, column = affected task.
        tasks: Names of the K tasks.
        title: Heading.
        path: PNG file to write, None for none.

    Raises:
        ValueError: If the shapes do not fit.
    """
    history = checked_history(iterations, affinity, tasks)
    count = len(tasks)
    across = min(count, 3 if count <= 9 else 4)
    down = -(-count // across)
    size = dict(width=max(across * _PANEL[0] + 250, 520), height=max(down * _PANEL[1], 20 * count) + 110)
    layout = dict(nrows=down, ncols=across, squeeze=False, sharex=True, sharey=True)
    figure, grid = new_chart(**size, title=title, note='Above 0: a step for the task of the colour helps', **layout)
    off_diagonal = np.where(np.eye(count, dtype=bool), np.nan, history) if count > 1 else history
    known = np.where(np.isfinite(off_diagonal), off_diagonal, 0.0)
    reach = float(np.abs(known).max()) or 1.0
    power = int(np.floor(np.log10(reach)))
    low, high = min(0.0, float(known.min())), max(0.0, float(known.max()))
    margin = 0.06 * (high - low) or reach * 0.1
    colours = distinct_colours(count)
    for axes in grid.ravel()[count:]:
        axes.remove()
    for target, (axes, name) in enumerate(zip(grid.ravel(), tasks)):
        axes.set_title(name, loc='left', fontsize=LABEL_SIZE, weight='bold', color=INK)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        for source in range(count):
            values = off_diagonal[:, source, target] / 10.0**power
            marker = 'o' if len(iterations) == 1 else None
            style = _STYLES[source % len(_STYLES)]
            line = dict(linewidth=1.5, linestyle=style, marker=marker, label=tasks[source])
            axes.plot(iterations, values, color=colours[source], **line)
        axes.set_ylim((low - margin) / 10.0**power, (high + margin) / 10.0**power)
        axes.margins(x=0.01)
        clean(axes)
        axes.grid(axis='y', color=FAINT, linewidth=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        if target + across >= count:
            axes.set_xlabel('iteration', fontsize=LABEL_SIZE, color=MUTED)
            axes.tick_params(labelbottom=True)
    unit = f'affinity (×10$^{{{power}}}$)' if power else 'affinity'
    figure.supylabel(unit, fontsize=LABEL_SIZE, color=MUTED)
    names = dict(title='stepping task', title_fontsize=TICK_SIZE, fontsize=LABEL_SIZE, labelcolor=INK)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc='outside right upper', frameon=False, **names)
    return finished(figure, path)


def strongest_pairs(affinity: ArrayLike, tasks: Sequence[str], count: int = 6) -> list[tuple[str, str]]:
    """Return the ``count`` ordered pairs of different tasks whose affinity ``(T, K, K)`` reaches furthest from 0.

    With one task only, the pair of that task with itself.
    """
    reach = np.nanmax(np.abs(np.nan_to_num(np.asarray(affinity, dtype=np.float64))), axis=0)
    if len(tasks) == 1:
        return [(tasks[0], tasks[0])]
    order = [divmod(int(flat), len(tasks)) for flat in np.argsort(-reach, axis=None, kind='stable')]
    return [(tasks[i], tasks[j]) for i, j in order if i != j][:count]


def colour_limit(matrix: np.ndarray) -> float:
    """Return the largest size off the diagonal; that on it if there is no other, 1 if all is 0."""
    sizes = np.abs(np.nan_to_num(matrix, nan=0.0, posinf=0.0, neginf=0.0))
    off_diagonal = sizes[~np.eye(len(sizes), dtype=bool)]
    return float(off_diagonal.max(initial=0.0) or sizes.max(initial=0.0) or 1.0)


def _checked(affinity: ArrayLike, tasks: Sequence[str]) -> np.ndarray:
    matrix = np.asarray(affinity, dtype=np.float64)
    if not len(tasks) or matrix.shape != (len(tasks), len(tasks)):
        raise UserError(f'affinity must have the shape (K, K) for {len(tasks)} tasks, but got {matrix.shape}')
    return matrix


def _power_of_ten(limit: float) -> int:
    power = int(np.floor(np.log10(limit)))
    return 0 if -1 <= power <= 2 else power


def checked_history(iterations: Sequence[int], affinity: ArrayLike, tasks: Sequence[str]) -> np.ndarray:
    """Return ``(T, K, K)`` float64, or raise ValueError."""
    history = np.asarray(affinity, dtype=np.float64)
    if history.shape != (len(iterations), len(tasks), len(tasks)) or not len(iterations):
        raise UserError(
            f'affinity must have the shape (T, K, K) = ({len(iterations)}, {len(tasks)}, {len(tasks)}) with T > 0, but '
            f'got {history.shape}'
        )
    return history
