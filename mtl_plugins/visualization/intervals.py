"""Means with intervals, one row each."""

from __future__ import annotations

import math
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
    new_figure,
    pixel_axes,
    pixel_text,
    save_figure,
)
from .labels import shorten

_LETTER = 7.0
_ROW = 21


@dataclass(frozen=True)
class IntervalRow:
    """A row.

    Args:
        label: Its name.
        mean: The mean; NaN leaves the row empty.
        interval: Its ends; None for none.
        values: The single values.
        colour: Colour of the mean.
    """

    label: str
    mean: float
    interval: tuple[float, float] | None = None
    values: Sequence[float] = ()
    colour: str = INK


def draw_intervals(
    rows: Sequence[IntervalRow],
    title: str,
    x_label: str,
    note: str = '',
    level: str = '',
    path: str | os.PathLike | None = None,
) -> Figure:
    """Draw one row per mean, its interval as a line and the single values as small rings.

    Args:
        rows: The rows, top to bottom.
        title: Heading.
        x_label: Name of the axis.
        note: A line below the heading.
        level: What 0 stands for; a line is drawn there.
        path: PNG file to write, None for none.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError('draw_intervals needs at least one row')
    labels = [shorten(row.label, 28) for row in rows]
    left, top, width = 24 + _LETTER * max(map(len, labels)), 66, 360
    height = _ROW * len(rows) + 8
    figure = new_figure(left + width + 70, top + height + 48)
    pixel_text(figure, 14, 18, title, fontsize=TITLE_SIZE, weight='bold')
    pixel_text(figure, 14, 38, note, color=MUTED, fontsize=TICK_SIZE)
    axes = pixel_axes(figure, left, top, width, height)
    clean(axes)
    axes.grid(axis='x', color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.axvline(0, color=MUTED, linewidth=1)
    ends = [0.0]
    for place, row in enumerate(rows):
        if not math.isfinite(row.mean):
            axes.text(0.01, place, 'no value', transform=axes.get_yaxis_transform(), fontsize=TICK_SIZE, va='center')
            continue
        axes.plot(row.values, [place] * len(row.values), 'o', markersize=4, markerfacecolor='none', color=MUTED)
        if row.interval is not None:
            axes.plot(row.interval, [place, place], color=row.colour, linewidth=2, solid_capstyle='butt')
        axes.plot([row.mean], [place], 'D', color=row.colour, markersize=5)
        ends += [row.mean, *row.values]
    # An interval of two runs may be very wide; it runs out of the picture instead of flattening all others.
    span = max(ends) - min(ends) or 1.0
    reach = [end for row in rows if row.interval and math.isfinite(row.mean) for end in row.interval]
    low = max(min([*ends, *reach]), min(ends) - 0.6 * span) - 0.05 * span
    high = min(max([*ends, *reach]), max(ends) + 0.6 * span) + 0.05 * span
    axes.set(xlim=(low, high), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), labels)
    axes.tick_params(axis='y', length=0, labelsize=LABEL_SIZE)
    axes.set_xlabel(x_label, fontsize=LABEL_SIZE, color=MUTED)
    for place, row in enumerate(rows):
        if math.isfinite(row.mean):
            text = f'{row.mean:+.2f}'.replace('-', '−') if abs(row.mean) >= 0.005 else '0.00'
            axes.text(
                1.015, place, text, transform=axes.get_yaxis_transform(), fontsize=TICK_SIZE, va='center', color=INK
            )
    if level:
        place = axes.get_xaxis_transform()
        axes.text(0, 1.01, level, transform=place, fontsize=TICK_SIZE, color=MUTED, ha='center', va='bottom')
    if path is not None:
        save_figure(figure, path)
    return figure
