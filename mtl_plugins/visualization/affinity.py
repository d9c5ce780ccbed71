"""Heat map and curves of the affinity between tasks."""

from __future__ import annotations

import os
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

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

COLOUR_MAP = 'PuOr_r'
"""Diverging from purple over white to orange: told apart with any colour vision."""

_MISSING = '#ececec'
_LETTER = 6.4
_WIDTH = 370
_LUMA = (0.299, 0.587, 0.114)


def draw_affinity(
    affinity: ArrayLike, tasks: Sequence[str], title: str = 'Task affinity', path: str | os.PathLike | None = None
) -> Figure:
    """Draw the affinity matrix as a heat map with the numbers in the cells.

    Colours are symmetric about 0 and span the entries off the diagonal; the effect of a task on itself is often much
    larger and would bleach all others, so it is written but saturates. All numbers carry one power of ten, named at
    the colour bar.

    Args:
        affinity: ``(K, K)``; entry (i, j) is the effect of a step for task i (row) on task j (column). NaN is drawn as
            "not measured".
        tasks: Names of the K tasks.
        title: Heading.
        path: PNG file to write, None for none.

    Returns:
        The figure, see :func:`mtl_plugins.visualization.figure.figure_to_rgb`.

    Raises:
        ValueError: If the matrix is not ``(K, K)``.
    """
    matrix = _checked(affinity, tasks)
    count = len(tasks)
    limit = colour_limit(matrix)
    power = _power_of_ten(limit)
    side = 84 if count <= 3 else 58 if count <= 6 else 50
    left = 52 + _LETTER * max(map(len, tasks))
    top, size = 62, side * count
    foot = 26 + _foot_height(tasks, side)
    figure = new_figure(max(left + size + 112, _WIDTH), top + size + foot)
    _write_head(figure, title, 'Positive: a step for the row task helps the column task')
    axes = pixel_axes(figure, left, top, size, size)
    colours = matplotlib.colormaps[COLOUR_MAP].with_extremes(bad=_MISSING)
    picture = axes.imshow(np.ma.masked_invalid(matrix), cmap=colours, norm=Normalize(-limit, limit), aspect='auto')
    _write_cells(axes, picture, matrix, power, LABEL_SIZE if count <= 6 else TICK_SIZE)
    slanted = _slanted(tasks, side)
    axes.set_xticks(
        range(count), tasks, rotation=38 if slanted else 0, ha='right' if slanted else 'center', rotation_mode='anchor'
    )
    axes.set_yticks(range(count), tasks)
    axes.tick_params(length=0, labelsize=LABEL_SIZE, labelcolor=INK, pad=5)
    axes.set_xticks(np.arange(count - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(count - 1) + 0.5, minor=True)
    axes.grid(which='minor', color='white', linewidth=1.5)
    axes.tick_params(which='minor', length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel('affected task', fontsize=LABEL_SIZE, color=MUTED)
    axes.set_ylabel('stepping task', fontsize=LABEL_SIZE, color=MUTED)
    bar = figure.colorbar(
        picture, cax=pixel_axes(figure, left + size + 18, top, 12, size), extend='both', extendfrac=0.03
    )
    bar.outline.set_visible(False)
    ticks = np.linspace(-limit, limit, 5)
    bar.set_ticks(ticks, labels=[_minus(f'{value / 10.0**power:.2g}') for value in ticks])
    bar.ax.tick_params(labelsize=TICK_SIZE, length=0, labelcolor=INK)
    unit = f' (×10$^{{{power}}}$)' if power else ''
    bar.set_label(f'affinity{unit}', fontsize=LABEL_SIZE, color=MUTED)
    if path is not None:
        save_figure(figure, path)
    return figure


def draw_affinity_curves(
    iterations: Sequence[int],
    affinity: ArrayLike,
    tasks: Sequence[str],
    pairs: Sequence[tuple[str, str]] | None = None,
    title: str = 'Task affinity over time',
    path: str | os.PathLike | None = None,
) -> Figure:
    """Draw how the affinity of chosen pairs develops.

    Args:
        iterations: T iteration numbers.
        affinity: ``(T, K, K)``, see :func:`draw_affinity`.
        tasks: Names of the K tasks.
        pairs: (stepping task, affected task), at most twelve. None: :func:`strongest_pairs`.
        title: Heading.
        path: PNG file to write, None for none.

    Raises:
        ValueError: If a pair names an unknown task, if there are too many, or if the shapes do not fit.
    """
    history = np.asarray(affinity, dtype=np.float64)
    if history.shape != (len(iterations), len(tasks), len(tasks)) or not len(iterations):
        raise ValueError(
            f'affinity must have the shape (T, K, K) = ({len(iterations)}, {len(tasks)}, {len(tasks)}) with T > 0, but '
            f'got {history.shape}'
        )
    pairs = strongest_pairs(history, tasks) if pairs is None else list(pairs)
    unknown = sorted({name for pair in pairs for name in pair if name not in tasks})
    if unknown:
        raise ValueError(f'pairs name {", ".join(unknown)}, but the tasks are {", ".join(tasks)}')
    if not 0 < len(pairs) <= 12:
        raise ValueError(f'between 1 and 12 pairs can be told apart in one figure, but got {len(pairs)}')
    labels = [f'{source} → {target}' for source, target in pairs]
    right = 62 + 6.8 * max(map(len, labels))
    figure = new_figure(78 + 560 + right, 354)
    _write_head(figure, title, 'Positive: a step for the first task helps the second')
    axes = pixel_axes(figure, 78, 76, 560, 226)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    positions = {task: index for index, task in enumerate(tasks)}
    styles = ('-', '--', '-.')
    marker = 'o' if len(iterations) == 1 else None
    for index, ((source, target), colour) in enumerate(zip(pairs, distinct_colours(len(pairs)))):
        values = history[:, positions[source], positions[target]]
        style = styles[index % len(styles)]
        axes.plot(iterations, values, color=colour, linewidth=1.6, linestyle=style, marker=marker, label=labels[index])
    clean(axes)
    axes.grid(axis='y', color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    axes.ticklabel_format(axis='y', style='sci', scilimits=(-2, 3), useMathText=True)
    axes.yaxis.get_offset_text().set_fontsize(TICK_SIZE)
    axes.set_xlabel('iteration', fontsize=LABEL_SIZE, color=MUTED)
    axes.set_ylabel('affinity', fontsize=LABEL_SIZE, color=MUTED)
    place = dict(loc='upper left', bbox_to_anchor=(1.01, 1.03))
    axes.legend(**place, frameon=False, fontsize=TICK_SIZE, handlelength=2.4, labelcolor=INK)
    if path is not None:
        save_figure(figure, path)
    return figure


def strongest_pairs(affinity: ArrayLike, tasks: Sequence[str], count: int = 6) -> list[tuple[str, str]]:
    """Return the ``count`` ordered pairs of different tasks whose affinity ``(T, K, K)`` reaches furthest from 0.

    With one task only, the pair of that task with itself.
    """
    reach = np.nanmax(np.abs(np.nan_to_num(np.asarray(affinity, dtype=np.float64))), axis=0)
    if len(tasks) == 1:
        return [(tasks[0], tasks[0])]
    order = [divmod(int(flat), len(tasks)) for flat in np.argsort(-reach, axis=None, kind='stable')]
    return [(tasks[i], tasks[j]) for i, j in order if i != j][:count]


def colour_limit(matrix: np.ndarray) -> float:
    """Return the largest size off the diagonal; that on it if there is no other, 1 if all is 0."""
    sizes = np.abs(np.nan_to_num(matrix, nan=0.0, posinf=0.0, neginf=0.0))
    off_diagonal = sizes[~np.eye(len(sizes), dtype=bool)]
    return float(off_diagonal.max(initial=0.0) or sizes.max(initial=0.0) or 1.0)


def _checked(affinity: ArrayLike, tasks: Sequence[str]) -> np.ndarray:
    matrix = np.asarray(affinity, dtype=np.float64)
    if not len(tasks) or matrix.shape != (len(tasks), len(tasks)):
        raise ValueError(f'affinity must have the shape (K, K) for {len(tasks)} tasks, but got {matrix.shape}')
    return matrix


def _power_of_ten(limit: float) -> int:
    power = int(np.floor(np.log10(limit)))
    return 0 if -1 <= power <= 2 else power


def _write_head(figure: Figure, title: str, note: str) -> None:
    pixel_text(figure, 16, 20, title, fontsize=TITLE_SIZE, weight='bold')
    pixel_text(figure, 16, 40, note, color=MUTED, fontsize=TICK_SIZE)


def _minus(text: str) -> str:
    return text.replace('-', '−')


def _write_cells(axes: Axes, picture: AxesImage, matrix: np.ndarray, power: int, size: float) -> None:
    for (row, column), value in np.ndenumerate(matrix):
        if not np.isfinite(value):
            axes.text(column, row, '–', ha='center', va='center', fontsize=size, color=MUTED)
            continue
        scaled = value / 10.0**power
        text = f'{scaled:.2f}' if abs(scaled) < 10 else f'{scaled:.3g}'
        lightness = np.dot(picture.to_rgba(value)[:3], _LUMA)
        colour = 'white' if lightness < 0.5 else INK
        axes.text(column, row, _minus(text), ha='center', va='center', fontsize=size, color=colour)


def _slanted(tasks: Sequence[str], side: float) -> bool:
    return max(map(len, tasks)) * _LETTER > side


def _foot_height(tasks: Sequence[str], side: float) -> float:
    return 18 + (0.62 * _LETTER * max(map(len, tasks)) + 12 if _slanted(tasks, side) else 14)
