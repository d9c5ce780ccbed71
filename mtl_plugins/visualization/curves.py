"""Curves over training, each named where it ends."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

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

_LETTER = 6.2
_GREY = '#c4c4c4'
_MOST = 16
_EARLY = 0.3
"""Share of a curve that need not be in sight: it would press together the ends, which are what is compared."""


@dataclass(frozen=True)
class Curve:
    """A curve.

    Args:
        label: Its name.
        points: (x, y), by rising x; those that are not finite are left out.
        colour: Colour; None for one in the background, which is grey and has no name.
        style: Line style of matplotlib.
    """

    label: str
    points: Sequence[tuple[float, float]]
    colour: str | None = None
    style: str = '-'


def draw_curves(
    curves: Sequence[Curve],
    title: str,
    x_label: str,
    y_label: str,
    note: str = '',
    level: tuple[str, float] | None = None,
    path: str | os.PathLike | None = None,
    size: tuple[float, float] = (204, 200),
    logarithmic: bool = False,
) -> Figure:
    """Draw curves; those with a colour are named at their ends.

    Args:
        curves: The curves, at least one with a finite point.
        title: Heading.
        x_label: Name of the horizontal axis.
        y_label: Name of the vertical axis.
        note: A line below the heading.
        level: Name and height of a horizontal line.
        path: PNG file to write, None for none.
        size: Pixels of the plot itself.
        logarithmic: Whether the horizontal axis is.

    Raises:
        ValueError: If there is nothing to draw.
    """
    drawn = [(curve, [(x, y) for x, y in curve.points if math.isfinite(y)]) for curve in curves]
    drawn = [(curve, points) for curve, points in drawn if points]
    if not drawn:
        raise ValueError(f'draw_curves ({title}): no curve has a finite point')
    named = [(curve, points) for curve, points in drawn if curve.colour]
    left, top, (width, height) = 62, 60, size
    right = 24 + _LETTER * max((len(shorten(curve.label, _MOST)) for curve, _ in named), default=0)
    figure = new_figure(left + width + right, top + height + 46)
    pixel_text(figure, 12, 18, title, fontsize=TITLE_SIZE, weight='bold')
    pixel_text(figure, 12, 38, note, color=MUTED, fontsize=TICK_SIZE)
    axes = pixel_axes(figure, left, top, width, height)
    clean(axes)
    axes.grid(axis='y', color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    if level is not None and math.isfinite(level[1]):
        axes.axhline(level[1], color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    for curve, points in drawn:
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=curve.colour or _GREY,
            linewidth=1.7 if curve.colour else 0.9,
            linestyle=curve.style,
            marker='o' if len(points) == 1 else None,
            markersize=4,
            zorder=3 if curve.colour else 2,
        )
    _set_height(axes, [points for _, points in drawn], level)
    axes.margins(x=0.01)
    if logarithmic:
        axes.set_xscale('log')
        low, high = axes.get_xlim()
        # Labels of thousands stand too close for a third one per decade.
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 10 * low else (1.0, 3.0), numticks=6))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.10g}'))
    axes.set_xlabel(x_label, fontsize=LABEL_SIZE, color=MUTED)
    axes.set_ylabel(y_label, fontsize=LABEL_SIZE, color=MUTED)
    if level is not None:
        _name_level(axes, *level)
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    label_column(
        axes,
        width + 14,
        [points[-1] for _, points in named],
        [shorten(curve.label, _MOST) for curve, _ in named],
        [curve.colour for curve, _ in named],
    )
    if path is not None:
        save_figure(figure, path)
    return figure


def _set_height(axes, curves: Sequence[Sequence[tuple[float, float]]], level: tuple[str, float] | None) -> None:
    heights = [y for points in curves for x, y in points if x >= _EARLY * points[-1][0]]
    heights += [level[1]] if level and math.isfinite(level[1]) else []
    margin = 0.06 * (max(heights) - min(heights)) or abs(heights[0]) * 0.05 or 1.0
    axes.set_ylim(min(heights) - margin, max(heights) + margin)


def _name_level(axes, name: str, height: float) -> None:
    if math.isfinite(height):
        place = axes.get_yaxis_transform()
        back = dict(facecolor='white', alpha=0.75, edgecolor='none', pad=0.4)
        options = dict(fontsize=TICK_SIZE, color=INK, ha='left', va='bottom', bbox=back, zorder=5)
        axes.text(0.02, height, name, transform=place, **options)
