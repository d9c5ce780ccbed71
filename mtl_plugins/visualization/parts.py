"""How parameters and computation are divided among the parts of a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from .figure import FAINT, INK, LABEL_SIZE, MUTED, TICK_SIZE, clean, distinct_colours, finished, new_chart


@dataclass(frozen=True)
class PartBar:
    """A part of a model.

    Args:
        label: Its name.
        parameters: Its number of parameters.
        multiply_adds: Its multiply-adds for one image.
    """

    label: str
    parameters: int
    multiply_adds: int


def draw_parts(bars: Sequence[PartBar], title: str, note: str, path: str | os.PathLike | None = None) -> Figure:
    """Draw the share of every part in the parameters and in the multiply-adds, with the numbers.

    Args:
        bars: The parts, which do not overlap.
        title: Heading.
        note: A line below it; the totals follow.
        path: PNG file to write, None for none.

    Raises:
        ValueError: If there is no part.
    """
    if not bars:
        raise ValueError('draw_parts needs at least one part')
    columns = dict(parameters=[bar.parameters for bar in bars], multiply_adds=[bar.multiply_adds for bar in bars])
    totals = ', '.join(f'{short(sum(values))} {name.replace("_", "-")}' for name, values in columns.items())
    size = dict(width=800, height=130 + 26 * len(bars))
    figure, pair = new_chart(**size, title=title, note=f'{note}: {totals}', ncols=2, sharey=True)
    colours = distinct_colours(3)
    for index, (axes, (name, values)) in enumerate(zip(pair, columns.items())):
        shares = [100 * value / (sum(values) or 1) for value in values]
        axes.barh(range(len(bars)), shares, height=0.62, color=colours[2 * index])
        high = 1.5 * max(*shares, 1)  # room for the numbers
        axes.set_xticks(range(0, 101, 20))
        axes.set(xlim=(0, high), ylim=(len(bars) - 0.5, -0.5))
        for place, (share, value) in enumerate(zip(shares, values)):
            text = f'{share:.1f} %  {short(value)}'
            axes.text(share + 0.01 * high, place, text, fontsize=TICK_SIZE, color=INK, va='center')
        clean(axes)
        axes.tick_params(axis='y', length=0)
        axes.grid(axis='x', color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_title(f'{name.replace("_", "-")} (%)', fontsize=LABEL_SIZE, color=MUTED, loc='left')
        axes.set_yticks(range(len(bars)), [bar.label for bar in bars], fontsize=LABEL_SIZE)
    return finished(figure, path)


def short(value: float) -> str:
    """A count with three digits and a letter for its power of a thousand."""
    for power, letter in ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if value >= power:
            return f'{value / power:.3g} {letter}'
    return f'{value:.3g}'
