"""Labels beside the things they name instead of a legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb

from .figure import FAINT, TICK_SIZE

MAX_LETTERS = 30


def shorten(text: str, letters: int = MAX_LETTERS) -> str:
    """``text`` with its middle left out if it is longer than ``letters``."""
    if len(text) <= letters:
        return text
    head = (letters - 1) * 2 // 3
    return f'{text[:head]}…{text[len(text) - (letters - 1 - head) :]}'


def readable(colour: str) -> str:
    """``colour`` as dark as text on white must be (contrast 4.5, WCAG 2)."""
    rgb = np.array(to_rgb(colour))
    while _contrast(rgb) < 4.5:
        rgb = rgb * 0.95
    return to_hex(rgb)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move places apart until neighbours are ``gap`` apart, as little as possible (least squares), in their order.

    Args:
        places: Where the labels would be best.
        gap: Smallest distance; made smaller if there is not enough room.
        low: Lower end of the room.
        high: Upper end of the room.

    Returns:
        The new places in the order of ``places``.
    """
    count = len(places)
    gap = min(gap, (high - low) / max(count - 1, 1))
    order = sorted(range(count), key=lambda index: (places[index], index))
    # With i * gap taken away, the places must only not decrease: pool neighbours that do.
    blocks: list[list[float]] = []
    for rank, index in enumerate(order):
        blocks.append([places[index] - rank * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            value, size = blocks.pop()
            before, number = blocks[-1]
            blocks[-1] = [(before * number + value * size) / (number + size), number + size]
    # The room shrinks by the same i * gap, so that cutting off at its ends keeps the distances.
    values = [min(max(value, low), high - (count - 1) * gap) for value, size in blocks for _ in range(int(size))]
    moved = [0.0] * count
    for rank, index in enumerate(order):
        moved[index] = values[rank] + rank * gap
    return moved


def label_column(
    axes: Axes,
    left: float,
    anchors: Sequence[tuple[float, float]],
    texts: Sequence[str],
    colours: Sequence[str],
    bold: Sequence[bool] | None = None,
) -> None:
    """Write labels one below the other, each joined by a thin line to the point of the data that it names.

    Args:
        axes: Axes with their final limits.
        left: Pixels from the left edge of the axes.
        anchors: Points in data coordinates.
        texts: The labels.
        colours: Their colours.
        bold: Which are set in bold (none).
    """
    box = axes.get_window_extent()
    placed = [axes.transData.transform(anchor) - (box.x0, box.y0) for anchor in anchors]
    line = TICK_SIZE * axes.figure.dpi / 72 * 1.28
    heights = spread([y for _, y in placed], line, 2, box.height - 2)
    back = axes.transData.inverted()
    for number, (text, height, (x, y)) in enumerate(zip(texts, heights, placed)):
        start, end = (back.transform((a + box.x0, b + box.y0)) for a, b in ((x + 5, y), (left - 3, height)))
        if left - 3 > x + 5:
            axes.plot([start[0], end[0]], [start[1], end[1]], color=FAINT, linewidth=0.7, clip_on=False, zorder=1)
        axes.annotate(
            text,
            (left / box.width, height / box.height),
            xycoords='axes fraction',
            fontsize=TICK_SIZE,
            color=readable(colours[number]),
            ha='left',
            va='center_baseline',
            weight='bold' if bold and bold[number] else 'normal',
            annotation_clip=False,
            bbox=dict(facecolor='white', alpha=0.8, edgecolor='none', pad=0.6),
            zorder=5,
        )


def _contrast(rgb: np.ndarray) -> float:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return 1.05 / (float(linear @ (0.2126, 0.7152, 0.0722)) + 0.05)
