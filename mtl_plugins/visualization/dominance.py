"""How much of every layer's movement is each task's."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from .figure import INK, LABEL_SIZE, MUTED, clean, distinct_colours, finished, new_chart

_BAR = 16


def draw_dominance(
    shares: Mapping[str, Sequence[float]],
    tasks: Sequence[str],
    title: str = 'Share of the tasks in the updates (rAU)',
    path: str | os.PathLike | None = None,
) -> Figure:
    """Draw one bar per layer, divided among the tasks.

    Args:
        shares: Layer -> share of each task, adding up to one.
        tasks: Their names.
        title: Title.
        path: PNG file to write; None writes none.

    Returns:
        The figure, see :func:`mtl_plugins.visualization.figure.figure_to_rgb`.

    Raises:
        ValueError: If there is no layer, or a layer has another number of shares than there are tasks.
    """
    if not shares or any(len(each) != len(tasks) for each in shares.values()):
        raise ValueError(f'draw_dominance needs one share per task and layer, but got {dict(shares)} for {list(tasks)}')
    values = np.array(list(shares.values()))
    note = f'One bar per layer, input at the top; even shares are 1 / {len(tasks)}, the dotted lines'
    figure, axes = new_chart(760, 150 + max(_BAR * len(shares), 20 * len(tasks)), title, note)
    starts = np.concatenate([np.zeros((len(values), 1)), values.cumsum(1)[:, :-1]], axis=1)
    for index, (task, colour) in enumerate(zip(tasks, distinct_colours(len(tasks)))):
        axes.barh(
            np.arange(len(values)), values[:, index], left=starts[:, index], height=0.86, color=colour, label=task
        )
    figure.legend(loc='outside right upper', frameon=False, fontsize=LABEL_SIZE, labelcolor=INK)
    for index in range(1, len(tasks)):
        axes.axvline(index / len(tasks), color=INK, linewidth=0.8, linestyle=':')
    axes.set_xlim(0, 1)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_yticks(np.arange(len(values)), list(shares))
    clean(axes)
    axes.set_xlabel('share', fontsize=LABEL_SIZE, color=MUTED)
    return finished(figure, path)
