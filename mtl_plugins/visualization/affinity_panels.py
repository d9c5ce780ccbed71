"""How every entry of the affinity map develops, one panel per affected task."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from .affinity import checked_history
from .figure import (
    FAINT,
    INK,
    LABEL_SIZE,
    MUTED,
    TICK_SIZE,
    TITLE_SIZE,
    clean,
    distinct_colours,
    new_figure,
    pixel_axes,
    pixel_text,
    save_figure,
)

_WIDTH, _HEIGHT = 200, 120
_STYLES = ('-', '--', '-.')
_LETTER = 6.2


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
    left, top, gap_x, gap_y = 66, 104, 26, 48
    figure = new_figure(
        max(left + across * (_WIDTH + gap_x) + 56 + 1.15 * _LETTER * max(*map(len, tasks), 10), 470),
        top + max(down * (_HEIGHT + gap_y) + 22, 20 * count),
    )
    pixel_text(figure, 16, 20, title, fontsize=TITLE_SIZE, weight='bold')
    pixel_text(figure, 16, 40, 'Above 0: a step for the task of the colour helps', color=MUTED, fontsize=TICK_SIZE)
    off_diagonal = np.where(np.eye(count, dtype=bool), np.nan, history) if count > 1 else history
    reach = float(np.nanmax(np.abs(np.where(np.isfinite(off_diagonal), off_diagonal, 0.0)))) or 1.0
    power = int(np.floor(np.log10(reach)))
    low, high = (limit(off_diagonal) for limit in (_low, _high))
    margin = 0.06 * (high - low) or reach * 0.1
    colours = distinct_colours(count)
    for target, name in enumerate(tasks):
        row, column = divmod(target, across)
        place = left + column * (_WIDTH + gap_x), top + row * (_HEIGHT + gap_y)
        axes = pixel_axes(figure, *place, _WIDTH, _HEIGHT)
        pixel_text(figure, place[0], place[1] - 12, name, fontsize=LABEL_SIZE, weight='bold')
        axes.axhline(0, color=MUTED, linewidth=0.8)
        for source in range(count):
            values = off_diagonal[:, source, target] / 10.0**power
            marker = 'o' if len(iterations) == 1 else None
            style = _STYLES[source % len(_STYLES)]
            axes.plot(iterations, values, color=colours[source], linewidth=1.5, linestyle=style, marker=marker)
        axes.set_ylim((low - margin) / 10.0**power, (high + margin) / 10.0**power)
        axes.margins(x=0.01)
        clean(axes)
        axes.grid(axis='y', color=FAINT, linewidth=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(labelleft=column == 0)
        if target + across >= count:
            axes.set_xlabel('iteration', fontsize=LABEL_SIZE, color=MUTED)
    unit = f'affinity (×10$^{{{power}}}$)' if power else 'affinity'
    pixel_text(figure, 16, top - 36, unit, color=MUTED)
    legend = left + across * (_WIDTH + gap_x)
    pixel_text(figure, legend, top - 12, 'stepping task', color=MUTED, fontsize=TICK_SIZE)
    for index, (task, colour) in enumerate(zip(tasks, colours)):
        key = pixel_axes(figure, legend, top + 8 + 20 * index, 24, 8)
        key.plot([0, 1], [0, 0], color=colour, linewidth=1.8, linestyle=_STYLES[index % len(_STYLES)])
        key.set_axis_off()
        pixel_text(figure, legend + 32, top + 12 + 20 * index, task, color=INK)
    if path is not None:
        save_figure(figure, path)
    return figure


def _low(values: np.ndarray) -> float:
    return min(0.0, float(np.nanmin(np.where(np.isfinite(values), values, 0.0))))


def _high(values: np.ndarray) -> float:
    return max(0.0, float(np.nanmax(np.where(np.isfinite(values), values, 0.0))))
