"""Charts of bars: time and memory of methods beside each other, and what the parts of a model take."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figure import FAINT, INK, LABEL_SIZE, MUTED, TICK_SIZE, clean, distinct_colours, finished, new_chart, shorten


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


@dataclass(frozen=True)
class PartCost:
    """Cost of one part of a model.

    Attributes:
        name: Name of the module, ``''`` for the whole model.
        parameters: Numbers that are learned.
        multiply_adds: Multiply-adds of convolutions, matrix products and attention for one image. Normalisation,
            activations, softmax, pooling and interpolation are not counted. One multiply-add is two floating point
            operations, but is what most papers call a FLOP.
    """

    name: str
    parameters: int
    multiply_adds: int


def draw_parts(parts: Sequence[PartCost], title: str, note: str, path: str | os.PathLike | None = None) -> Figure:
    """Draw the share of every part in the parameters and in the multiply-adds, with the numbers.

    Args:
        parts: The parts, which do not overlap.
        title: Heading.
        note: A line below it; the totals follow.
        path: PNG file to write, None for none.

    Raises:
        ValueError: If there is no part.
    """
    if not parts:
        raise ValueError('draw_parts needs at least one part')
    columns = dict(parameters=[part.parameters for part in parts], multiply_adds=[part.multiply_adds for part in parts])
    totals = ', '.join(f'{short(sum(values))} {name.replace("_", "-")}' for name, values in columns.items())
    size = dict(width=800, height=130 + 26 * len(parts))
    figure, pair = new_chart(**size, title=title, note=f'{note}: {totals}', ncols=2, sharey=True)
    colours = distinct_colours(3)
    for index, (axes, (name, values)) in enumerate(zip(pair, columns.items())):
        shares = [100 * value / (sum(values) or 1) for value in values]
        texts = [f'{share:.1f} %  {short(value)}' for share, value in zip(shares, values)]
        axes.set_xticks(range(0, 101, 20))
        draw_bars(axes, shares, texts, f'{name.replace("_", "-")} (%)', colours[2 * index], room=1.5)
        axes.set_yticks(range(len(parts)), [part.name for part in parts], fontsize=LABEL_SIZE)
    return finished(figure, path)


def short(value: float) -> str:
    """A count with three digits and a letter for its power of a thousand."""
    for power, letter in ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if value >= power:
            return f'{value / power:.3g} {letter}'
    return f'{value:.3g}'


def draw_bars(
    axes: Axes,
    values: Sequence[float],
    texts: Sequence[str],
    title: str,
    colour: str,
    ends: Sequence[float] | None = None,
    room: float = 1.2,
) -> None:
    """Draw bars from the top down, each with its text behind it.

    Args:
        axes: Where.
        values: Lengths of the bars.
        texts: What stands behind each.
        title: Heading.
        colour: Of the bars.
        ends: Where the texts begin; by default at the ends of the bars.
        room: Width of the axes in units of the farthest end.
    """
    ends = values if ends is None else ends
    high = room * (max(ends) or 1)
    axes.barh(range(len(values)), values, height=0.62, color=colour)
    axes.set(xlim=(0, high), ylim=(len(values) - 0.5, -0.5))
    for place, (end, text) in enumerate(zip(ends, texts)):
        axes.text(end + 0.02 * high, place, text, fontsize=TICK_SIZE, color=INK, va='center')
    clean(axes)
    axes.tick_params(axis='y', length=0)
    axes.grid(axis='x', color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=LABEL_SIZE, color=MUTED, loc='left')
