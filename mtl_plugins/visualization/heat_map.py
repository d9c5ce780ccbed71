"""Heat maps with the numbers in the cells."""

import os
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from .figure import INK, LABEL_SIZE, MUTED, TICK_SIZE, finished, new_chart

_MISSING = '#ececec'
_LETTER = 6.4  # about the width of a letter in pixels
_LUMA = (0.299, 0.587, 0.114)


def draw_heat_map(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    note: str,
    axis_titles: tuple[str, str],
    bar_title: str,
    colours: str | Colormap,
    limits: tuple[float, float],
    tick: Callable[[float], str],
    cell: Callable[[float], str],
    cell_size: tuple[float, float],
    text_size: float = LABEL_SIZE,
    extend: str = 'neither',
    summary_column: bool = False,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Draw a matrix.

    Args:
        values: ``(R, C)``; what is not finite is drawn as not measured.
        rows: Names of the rows.
        columns: Names of the columns.
        title: Heading.
        note: A line below it.
        axis_titles: What columns and rows are.
        bar_title: What the colours stand for.
        colours: A colour map of matplotlib, or its name.
        limits: Values of its ends.
        tick: Value -> text beside the colours.
        cell: Value -> text in a cell.
        cell_size: Width and height of a cell in pixels.
        text_size: Size of the numbers in the cells.
        extend: Whether values may lie beyond the ends: ``'neither'`` or ``'both'``.
        summary_column: Whether the last column stands apart.
        path: PNG file to write, None for none.
    """
    width, height = len(columns) * cell_size[0], len(rows) * cell_size[1]
    longest = max(map(len, columns))
    slanted = longest * _LETTER > cell_size[0]
    beside, below = 160 + _LETTER * max(map(len, rows)), 120 + slanted * 0.62 * _LETTER * longest
    # A short map still needs a legible scale.
    figure, axes = new_chart(max(width + beside, 420), max(height, 84) + below, title, note)
    palette = matplotlib.colormaps.get_cmap(colours).with_extremes(bad=_MISSING)
    picture = axes.imshow(np.ma.masked_invalid(values), cmap=palette, norm=Normalize(*limits), aspect='auto')
    _write_cells(axes, picture, values, cell, text_size)
    axes.set_xticks(
        range(len(columns)),
        columns,
        rotation=38 if slanted else 0,
        ha='right' if slanted else 'center',
        rotation_mode='anchor',
    )
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0, labelsize=LABEL_SIZE, labelcolor=INK, pad=5)
    axes.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
    axes.grid(which='minor', color='white', linewidth=1.5)
    axes.tick_params(which='minor', length=0)
    if summary_column and len(columns) > 1:
        axes.axvline(len(columns) - 1.5, color='white', linewidth=7)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(axis_titles[0], fontsize=LABEL_SIZE, color=MUTED)
    axes.set_ylabel(axis_titles[1], fontsize=LABEL_SIZE, color=MUTED)
    bar = figure.colorbar(picture, ax=axes, extend=extend, extendfrac=0.03, aspect=max(height, 84) / 12, pad=0.03)
    bar.outline.set_visible(False)
    ticks = np.linspace(*limits, 5)
    bar.set_ticks(ticks, labels=[minus(tick(value)) for value in ticks])
    bar.ax.tick_params(labelsize=TICK_SIZE, length=0, labelcolor=INK)
    bar.set_label(bar_title, fontsize=LABEL_SIZE, color=MUTED)
    return finished(figure, path)


def minus(text: str) -> str:
    """``text`` with true minus signs."""
    return text.replace('-', '−')


def _write_cells(axes: Axes, picture: AxesImage, values: np.ndarray, cell: Callable[[float], str], size: float) -> None:
    # Inside the axes, hence no matter of the layout, which would measure each text several times.
    look = dict(ha='center', va='center', fontsize=size, in_layout=False)
    for (row, column), value in np.ndenumerate(values):
        if not np.isfinite(value):
            axes.text(column, row, '–', color=MUTED, **look)
            continue
        lightness = np.dot(picture.to_rgba(value)[:3], _LUMA)
        axes.text(column, row, minus(cell(value)), color='white' if lightness < 0.5 else INK, **look)
