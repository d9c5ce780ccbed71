"""Gain against cost, with the choices that no other beats."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

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
from .labels import label_column, shorten

FRONT = '#D55E00'
_SIZE = (760, 420)
_NAMES = 150
"""Pixels right of a column of points that its names take."""


@dataclass(frozen=True)
class Choice:
    """A point of the picture.

    Args:
        label: Its name.
        cost: Place on the horizontal axis, above 0.
        gain: Place on the vertical axis.
        interval: Ends of the interval of ``gain``; None for none.
        marker: Marker of matplotlib.
        colour: Its colour.
    """

    label: str
    cost: float
    gain: float
    interval: tuple[float, float] | None = None
    marker: str = 'o'
    colour: str = INK


def draw_front(
    choices: Sequence[Choice],
    front: Sequence[str],
    title: str,
    x_label: str,
    y_label: str,
    note: str = '',
    level: str = '',
    path: str | os.PathLike | None = None,
) -> Figure:
    """Draw gain against cost on a logarithmic axis, and join the choices on the front by a stair.

    Args:
        choices: The points.
        front: Labels of those on the front, by rising cost.
        title: Heading.
        x_label: Name of the horizontal axis.
        y_label: Name of the vertical axis.
        note: A line below the heading.
        level: What a gain of 0 stands for.
        path: PNG file to write, None for none.

    Raises:
        ValueError: If there is no point with a finite gain and a finite cost above 0.
    """
    choices = [c for c in choices if math.isfinite(c.gain) and math.isfinite(c.cost) and c.cost > 0]
    if not choices:
        raise ValueError('draw_front needs a point with a finite gain and a finite cost above 0')
    left, top, (width, height) = 62, 62, _SIZE
    # Many names in one column need room.
    height = max(height, 14.5 * max(map(len, _columns(choices, width))))
    figure = new_figure(left + width + 20, top + height + 50)
    pixel_text(figure, 14, 18, title, fontsize=TITLE_SIZE, weight='bold')
    pixel_text(figure, 14, 38, f'{note}; 0: {level}' if level else note, color=MUTED, fontsize=TICK_SIZE)
    axes = pixel_axes(figure, left, top, width, height)
    clean(axes)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xscale('log')
    axes.set_xlim(*_limits(choices, width))
    gains = [choice.gain for choice in choices] + ([0.0] if level else [])
    margin = 0.08 * (max(gains) - min(gains)) or 1.0
    low, high = min(gains) - margin, max(gains) + margin
    reach = [end for choice in choices if choice.interval for end in choice.interval]
    span = high - low
    axes.set_ylim(max(min([low, *reach]), low - 0.3 * span), min(max([high, *reach]), high + 0.3 * span))
    if level:
        axes.axhline(0, color=MUTED, linewidth=1)
    stair = [choice for name in front for choice in choices if choice.label == name]
    _draw_stair(axes, stair, max(choice.cost for choice in choices))
    for choice in choices:
        if choice.interval:
            axes.plot([choice.cost] * 2, choice.interval, color=choice.colour, linewidth=1, alpha=0.35, zorder=2)
        axes.plot([choice.cost], [choice.gain], choice.marker, color=choice.colour, markersize=6, zorder=4)
    _set_ticks(axes, x_label, y_label)
    for column in _columns(choices, width):
        right = max(axes.transData.transform((choice.cost, 0))[0] for choice in column) - axes.get_window_extent().x0
        label_column(
            axes,
            right + 16,
            [(choice.cost, choice.gain) for choice in column],
            [shorten(choice.label, 24) for choice in column],
            [FRONT if choice.label in front else INK for choice in column],
            [choice.label in front for choice in column],
        )
    if path is not None:
        save_figure(figure, path)
    return figure


def _draw_stair(axes, front: Sequence[Choice], end: float) -> None:
    if not front:
        return
    costs = [*(choice.cost for choice in front), end]
    gains = [*(choice.gain for choice in front), front[-1].gain]
    axes.step(costs, gains, where='post', color=FRONT, linewidth=1.4, alpha=0.7, zorder=2)
    places = [choice.cost for choice in front], [choice.gain for choice in front]
    axes.plot(*places, 'o', markersize=11, markerfacecolor='none', markeredgecolor=FRONT, markeredgewidth=1.3, zorder=3)


def _limits(choices: Sequence[Choice], width: float) -> tuple[float, float]:
    low, high = (math.log10(f(choice.cost for choice in choices)) for f in (min, max))
    span = max(high - low, 0.3)
    low -= 0.05 * span
    # Room for the names of the rightmost points.
    return 10**low, 10 ** (high + (high - low + 0.05 * span) * _NAMES / (width - _NAMES))


def _columns(choices: Sequence[Choice], width: float) -> list[list[Choice]]:
    """Points between which there is no room for names, so that these share a column right of them all."""
    low, high = (math.log10(limit) for limit in _limits(choices, width))
    columns: list[list[Choice]] = []
    last = -math.inf
    for choice in sorted(choices, key=lambda choice: (choice.cost, choice.gain, choice.label)):
        place = (math.log10(choice.cost) - low) / (high - low) * width
        if place - last > _NAMES:
            columns.append([])
        columns[-1].append(choice)
        last = place
    return columns


def _set_ticks(axes, x_label: str, y_label: str) -> None:
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.10g}'))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(x_label, fontsize=LABEL_SIZE, color=MUTED)
    axes.set_ylabel(y_label, fontsize=LABEL_SIZE, color=MUTED)
