"""Which tasks shared a group, over the iterations of a run."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mtl_plugins.errors import UserError

from .figure import FAINT, INK, LABEL_SIZE, MUTED, TICK_SIZE, clean, distinct_colours, finished, new_chart

MAX_COLUMNS = 1600
"""More records than this are thinned out evenly for drawing: a screen does not show them."""


def draw_group_timeline(
    iterations: Sequence[int],
    groups: Sequence[Sequence[Sequence[str]]],
    tasks: Sequence[str],
    path: str | os.PathLike | None = None,
    title: str = 'Task groups over time',
) -> Figure:
    """Draw one row per task; tasks of one colour share a group at that iteration.

    A group has the colour of its first task, so colours do not jump when the order of the groups does: a row in its own
    colour leads its group, a row in another row's colour has joined it. Below, the number of groups, which is the cost
    of an iteration in forward and backward passes.

    Args:
        iterations: T iteration numbers, increasing.
        groups: For each of them the partition of the tasks, by name.
        tasks: Names of the K tasks, top to bottom.
        path: PNG file to write, None for none.
        title: Heading.

    Returns:
        The figure, see :func:`mtl_plugins.visualization.figure.figure_to_rgb`.

    Raises:
        ValueError: If there is nothing to draw, the lengths differ, or groups name a task twice or an unknown one.
    """
    if not len(iterations) or len(iterations) != len(groups):
        raise UserError(f'one partition per iteration is needed, but got {len(groups)} for {len(iterations)}')
    leaders = np.stack([group_leaders(partition, tasks) for partition in groups])
    counts = np.array([len(partition) for partition in groups])
    chosen = np.unique(np.linspace(0, len(iterations) - 1, min(len(iterations), MAX_COLUMNS)).astype(int))
    edges = _edges(np.asarray(iterations, dtype=float)[chosen])
    height = (26 if len(tasks) <= 6 else 22) * len(tasks)
    note = 'One colour = one group; a group has the colour of its first task'
    figure, (rows, below) = new_chart(800, height + 210, title, note, nrows=2, height_ratios=(height, 74))
    _draw_rows(rows, edges, leaders[chosen], tasks)
    below.stairs(counts[chosen], edges, color=INK, linewidth=1.3, baseline=None)
    below.set_xlim(edges[0], edges[-1])
    below.set_ylim(0, len(tasks) + 0.6)
    below.set_yticks(sorted({1, max(1, round((len(tasks) + 1) / 2)), len(tasks)}))
    below.grid(axis='y', color=FAINT, linewidth=0.6)
    below.set_axisbelow(True)
    clean(below)
    below.set_xlabel('iteration', fontsize=LABEL_SIZE, color=MUTED)
    below.set_ylabel('groups M', fontsize=LABEL_SIZE, color=MUTED)
    mean = f'mean {counts.mean():.2f}'
    below.text(0.995, 0.93, mean, transform=below.transAxes, ha='right', va='top', fontsize=TICK_SIZE, color=MUTED)
    return finished(figure, path)


def group_leaders(partition: Sequence[Sequence[str]], tasks: Sequence[str]) -> np.ndarray:
    """Return for each task the index of the first task (in the order of ``tasks``) of its group, -1 if it has none.

    Raises:
        ValueError: If the groups name an unknown task or a task twice.
    """
    positions = {task: index for index, task in enumerate(tasks)}
    leaders = np.full(len(tasks), -1)
    for group in partition:
        unknown = [task for task in group if task not in positions]
        if unknown:
            raise UserError(f'groups name {", ".join(map(str, unknown))}, but the tasks are {", ".join(tasks)}')
        members = [positions[task] for task in group]
        if len(set(members)) < len(members) or (leaders[members] >= 0).any():
            raise UserError(f'each task may be in one group only, but the groups are {[list(g) for g in partition]}')
        leaders[members] = min(members, default=-1)
    return leaders


def _draw_rows(axes, edges: np.ndarray, leaders: np.ndarray, tasks: Sequence[str]) -> None:
    palette = np.array([to_rgb(colour) for colour in distinct_colours(len(tasks))] + [to_rgb('#ffffff')])
    # White lines between the rows, not between the iterations, which would hide the colours of long runs.
    axes.pcolormesh(edges, np.arange(len(tasks) + 1), palette[leaders.T], shading='flat', rasterized=True)
    axes.hlines(np.arange(len(tasks) + 1), edges[0], edges[-1], color='white', linewidth=3)
    axes.set_ylim(len(tasks), 0)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_yticks(np.arange(len(tasks)) + 0.5, tasks)
    axes.tick_params(length=0, labelsize=LABEL_SIZE, labelcolor=INK, labelbottom=False)
    axes.spines[:].set_visible(False)


def _edges(iterations: np.ndarray) -> np.ndarray:
    """Return the T + 1 borders of the time each record stands for: from it to the next one."""
    if (np.diff(iterations) <= 0).any():
        raise UserError('iterations must increase')
    last = iterations[-1] - iterations[-2] if len(iterations) > 1 else 1.0
    return np.append(iterations, iterations[-1] + last)
