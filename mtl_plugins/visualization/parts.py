"""How parameters and computation are divided among the parts of a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from .figure import LABEL_SIZE, distinct_colours, draw_bars, finished, new_chart


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
        texts = [f'{share:.1f} %  {short(value)}' for share, value in zip(shares, values)]
        axes.set_xticks(range(0, 101, 20))
        draw_bars(axes, shares, texts, f'{name.replace("_", "-")} (%)', colours[2 * index], room=1.5)
        axes.set_yticks(range(len(bars)), [bar.label for bar in bars], fontsize=LABEL_SIZE)
    return finished(figure, path)


def short(value: float) -> str:
    """A count with three digits and a letter for its power of a thousand."""
    for power, letter in ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if value >= power:
            return f'{value / power:.3g} {letter}'
    return f'{value:.3g}'
