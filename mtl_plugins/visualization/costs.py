"""Time and memory of methods beside each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figure import INK, distinct_colours, draw_bars, finished, new_chart, shorten


@dataclass(frozen=True)
class CostBar:
    """A method.

    Args:
        label: Its name.
        time: Time of a batch in units of the first method's.
        spread: Quartiles of that.
        memory: Peak memory in units of the first method's.
    """

    label: str
    time: float
    spread: tuple[float, float]
    memory: float


def draw_costs(bars: Sequence[CostBar], title: str, note: str, path: str | os.PathLike | None = None) -> Figure:
    """Draw the time and the memory of every method as bars with their ratios to the first.

    Args:
        bars: The methods.
        title: Heading.
        note: A line below it.
        path: PNG file to write, None for none.

    Raises:
        ValueError: If there is no method.
    """
    if not bars:
        raise ValueError('draw_costs needs at least one method')
    figure, (times, memory) = new_chart(900, 160 + 26 * len(bars), title, note, ncols=2, sharey=True)
    colours = distinct_colours(3)
    ends = [max(bar.time, *bar.spread) for bar in bars]
    _draw(times, [bar.time for bar in bars], 'time (line: quartiles of the rounds)', colours[0], ends)
    for place, bar in enumerate(bars):
        times.plot(bar.spread, [place, place], color=INK, linewidth=1.2)
    times.set_yticks(range(len(bars)), [shorten(bar.label, 36) for bar in bars], parse_math=False)
    _draw(memory, [bar.memory for bar in bars], 'peak memory', colours[2])
    return finished(figure, path)


def _draw(axes: Axes, values: Sequence[float], title: str, colour: str, ends: Sequence[float] | None = None) -> None:
    """Bars of ratios, with a line at that of the first method."""
    draw_bars(axes, values, [f'{value:.2f}' for value in values], title, colour, ends)
    axes.axvline(1, color=INK, linewidth=0.8, linestyle=':')
