"""How parameters and computation are divided among the parts of a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

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

_LETTER = 7.1
_ROW = 26
_WIDTH = 230


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
    left, top, gap = 28 + _LETTER * max(len(bar.label) for bar in bars), 82, 96
    height = _ROW * len(bars)
    figure = new_figure(max(left + 2 * _WIDTH + gap + 90, 520), top + height + 50)
    columns = dict(parameters=[bar.parameters for bar in bars], multiply_adds=[bar.multiply_adds for bar in bars])
    totals = ', '.join(f'{short(sum(values))} {name.replace("_", "-")}' for name, values in columns.items())
    pixel_text(figure, 16, 20, title, fontsize=TITLE_SIZE, weight='bold')
    pixel_text(figure, 16, 40, f'{note}: {totals}', color=MUTED, fontsize=TICK_SIZE)
    colours = distinct_colours(3)
    for index, (name, values) in enumerate(columns.items()):
        axes = pixel_axes(figure, left + index * (_WIDTH + gap), top, _WIDTH, height)
        shares = [100 * value / (sum(values) or 1) for value in values]
        axes.barh(range(len(bars)), shares, height=0.62, color=colours[2 * index])
        high = 1.04 * max(*shares, 1)
        axes.set(xlim=(0, high), ylim=(len(bars) - 0.5, -0.5))
        for place, (share, value) in enumerate(zip(shares, values)):
            text = f'{share:.1f} %  {short(value)}'
            axes.text(share + 0.02 * high, place, text, fontsize=TICK_SIZE, color=INK, va='center')
        clean(axes)
        axes.tick_params(axis='y', length=0)
        axes.grid(axis='x', color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_title(f'{name.replace("_", "-")} (%)', fontsize=LABEL_SIZE, color=MUTED, loc='left')
        if index:
            axes.set_yticks([])
        else:
            axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
            axes.tick_params(axis='y', labelsize=LABEL_SIZE)
    if path is not None:
        save_figure(figure, path)
    return figure


def short(value: float) -> str:
    """A count with three digits and a letter for its power of a thousand."""
    for power, letter in ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if value >= power:
            return f'{value / power:.3g} {letter}'
    return f'{value:.3g}'
