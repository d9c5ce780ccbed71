"""Maps of gains side by side, and the groups that were made of one."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .affinity import COLOUR_MAP, colour_limit
from .figure import INK, LABEL_SIZE, MUTED, TICK_SIZE, clean, finished, new_chart
from .heat_map import draw_heat_map

_CELL = 34


def draw_gain_maps(
    maps: Mapping[str, ArrayLike],
    tasks: Sequence[str],
    correlations: Mapping[tuple[str, str], float],
    path: str | os.PathLike | None = None,
) -> Figure:
    """Draw several maps of the same tasks, each in colours of its own scale.

    Args:
        maps: Title -> ``(K, K)``, row = stepping task, column = affected task; NaN is left blank.
        tasks: Names of the K tasks.
        correlations: Two titles -> rank correlation of their entries off the diagonal, for the line below the heading.
        path: PNG file to write, None for none.
    """
    count, side = len(tasks), max(_CELL * len(tasks), 150)
    agree = ', '.join(f'{one} and {other} {value:+.2f}' for (one, other), value in correlations.items())
    figure, grid = new_chart(
        width=len(maps) * (side + 60) + 110,
        height=side + 170,
        title='What a step for the row task does to the column task',
        note='orange: it helps, violet: it harms' + (f'; rank correlations: {agree}' if agree else ''),
        ncols=len(maps),
        squeeze=False,
    )
    for axes, (name, values) in zip(grid[0], maps.items()):
        matrix = np.asarray(values, dtype=float)
        limit = colour_limit(matrix)
        clean(axes)
        axes.imshow(matrix, cmap=COLOUR_MAP, vmin=-limit, vmax=limit)
        axes.set_title(f'{name} (±{limit:.3g})', loc='left', fontsize=LABEL_SIZE, weight='bold', color=INK)
        axes.set_xticks(range(count), tasks, rotation=90, fontsize=TICK_SIZE, color=MUTED)
        axes.set_yticks(range(count), tasks if axes is grid[0][0] else [''] * count, fontsize=TICK_SIZE, color=MUTED)
        axes.grid(visible=False)
    return finished(figure, path)


def draw_task_groups(
    groups: Sequence[Sequence[str]],
    gains: ArrayLike,
    tasks: Sequence[str],
    title: str,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Draw which task is in which group, with the mean gain that the other members bring it.

    Args:
        groups: Task names of each group.
        gains: ``(K, K)``, row = stepping task, column = affected task.
        tasks: Names of the K tasks.
        title: Heading.
        path: PNG file to write, None for none.
    """
    matrix, place = np.asarray(gains, dtype=float), {task: number for number, task in enumerate(tasks)}
    values = np.full((len(tasks), len(groups)), np.nan)
    for column, group in enumerate(groups):
        for task in group:
            others = [place[other] for other in group if other != task]
            values[place[task], column] = np.mean(matrix[others, place[task]]) if others else 0.0
    limit = float(np.abs(np.nan_to_num(values)).max()) or 1.0
    return draw_heat_map(
        values,
        tasks,
        [f'group {number + 1}' for number in range(len(groups))],
        title=title,
        note='Mean gain that the other members of the group bring the task',
        axis_titles=('group', 'task'),
        bar_title='mean gain',
        colours=COLOUR_MAP,
        limits=(-limit, limit),
        tick=lambda value: f'{value:.3g}',
        cell=lambda value: f'{value:.3g}',
        cell_size=(84, 34),
        text_size=TICK_SIZE,
        path=path,
    )
