"""How every entry of the affinity map develops, one panel per affected task."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from .affinity import checked_history
from .figure import FAINT, INK, LABEL_SIZE, MUTED, TICK_SIZE, clean, distinct_colours, finished, new_chart

_WIDTH, _HEIGHT = 220, 160
_STYLES = ('-', '--', '-.')


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
    size = dict(width=max(across * _WIDTH + 250, 520), height=max(down * _HEIGHT, 20 * count) + 110)
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
