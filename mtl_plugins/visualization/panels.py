"""One picture per image: the input, and for each task the ground truth, if there is any, above the prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mtl_plugins.datasets.files import learned_frame
from mtl_plugins.errors import UserError
from mtl_plugins.structures.fields import as_array, entry, read_field, valid_pixels, without_padding
from mtl_plugins.task_specs import IGNORE_INDEX, TaskSpec, get_task_specs

from .figure import DPI, FAINT, INK, LABEL_SIZE, MUTED, figure_to_rgb, new_figure, pixel_box, pixel_image, pixel_text
from .painters import COLOUR_MAPS, HATCH_PERIOD, class_palette, paint, painted_range, painter_of

MIN_CELL, MAX_CELL, LONGEST_CELL = 160, 360, 720
"""Smallest height or width and largest width of a drawn map in pixels, and the longest side of a very thin one."""

_MARGIN, _GAP, _SPACE, _SIDE, _HEAD = 12, 6, 12, 32, 24
_LEGEND_ROWS, _LEGEND_LINE, _SMALL = 4, 13, 6.5
_SEEN = 0.01
"""Share of the pixels from which on a class that only the prediction has is named in any case."""
_ROWS = (('ground truth', 'no target', 'hatched: not labelled'), ('prediction', 'no prediction', 'hatched: no number'))
_NOTES = {
    'normals': ('red: {}', 'green: {}', 'blue: {}'),
    'curvature': ('grey: flat', 'orange, light blue: bulges', 'dark blue, brown: hollows'),
}


@dataclass(frozen=True)
class _Cell:
    """Size of a drawn map: the source is enlarged ``zoom`` times, then reduced ``shrink`` times."""

    height: int
    width: int
    zoom: int
    shrink: int

    @classmethod
    def fitting(cls, height: int, width: int) -> _Cell:
        zoom = max(1, min(-(-MIN_CELL // min(height, width)), LONGEST_CELL // max(height, width)))
        shrink = max(1, -(-width // MAX_CELL), -(-height // LONGEST_CELL)) if zoom == 1 else 1
        shrink = min(shrink, height, width)
        return cls(height * zoom // shrink, width * zoom // shrink, zoom, shrink)

    def enlarge(self, array: np.ndarray) -> np.ndarray:
        """Repeat the pixels of ``(C, H, W)``."""
        return array.repeat(self.zoom, axis=1).repeat(self.zoom, axis=2)

    def reduce(self, rgb: np.ndarray) -> np.ndarray:
        """Average the pixels of ``(H, W, 3)`` in blocks."""
        shrink = min(self.shrink, *rgb.shape[:2])
        if shrink == 1:
            return rgb
        height, width = (side // shrink for side in rgb.shape[:2])  # of this map: others may be of another size
        blocks = rgb[: height * shrink, : width * shrink].reshape(height, shrink, width, shrink, 3)
        return np.round(blocks.mean(axis=(1, 3))).astype(np.uint8)


def prediction_panel(
    sample: Any,
    tasks: Sequence[str],
    *,
    image: np.ndarray | None = None,
    meta: Mapping[str, Any] | None = None,
    columns: int = 6,
    title: str = '',
    legend_lines: int | None = None,
) -> np.ndarray:
    """Draw the predictions of one sample below its targets.

    Args:
        sample: Data sample (or its dict) with ``gt_<task>`` and ``pred_<task>``; either may be missing.
        tasks: Tasks to draw, in order.
        image: Input picture RGB ``(H, W, 3)`` uint8; see :func:`image_from_inputs`. Padding that ``sample`` tells of is
            cut off.
        meta: The dataset's meta information: ``classes``, ``palettes`` and ``value_ranges`` per task.
        columns: Most tasks side by side; more go into further bands.
        title: Heading, for example the name of the image; only its end is shown if it does not fit.
        legend_lines: Height of the legends, two classes a line, for panels that must be of one size, as those of a
            video; the classes that do not fit are counted. None: as high as this panel needs.

    Returns:
        RGB ``(H', W', 3)`` uint8. Maps are enlarged to at least 160 pixels, unless they are very thin; targets and
        predictions of one task share their colour scale, which is that of the target. Nothing is stretched: what has
        another aspect than the first map leaves a part of its place empty. Every class of a target is named. A sample
        without any target has no row for them, one without any prediction likewise.

    Raises:
        KeyError: If a task is unknown.
        ValueError: If there is nothing to draw.
    """
    specs = get_task_specs(tasks)
    padded = None if image is None else image.shape[:2]
    fields = {
        spec.key: tuple(_read(sample, f'{prefix}_{spec.key}', padded) for prefix in ('gt', 'pred')) for spec in specs
    }
    sizes = [array.shape[1:] for pair in fields.values() for array in pair if array is not None]
    if not sizes and image is None:
        raise UserError(f'prediction_panel: the sample has no target, no prediction and no image of {list(tasks)}')
    image = None if image is None else without_padding(image, sample)
    cell = _Cell.fitting(*(sizes[0] if sizes else image.shape[:2]))
    bands = _bands(specs, columns)
    inputs = 1 if image is not None else 0
    width = 2 * _MARGIN + _SIDE + (inputs + len(bands[0])) * (cell.width + _SPACE) - _SPACE
    rows = [row for row in (0, 1) if any(pair[row] is not None for pair in fields.values())] or [0, 1]
    band_height = _HEAD + len(rows) * (cell.height + _GAP) - _GAP
    legends = {spec.key: _legend(fields[spec.key], legend_lines) for spec in specs if spec.painter == 'classes'}
    feet = [_foot_height(band, legends) for band in bands]
    top = _MARGIN + (22 if title else 0)
    figure = new_figure(width, top + len(bands) * band_height + sum(feet) + _MARGIN - 8)
    if title:
        letters = int((width - 2 * _MARGIN) / 9)
        title = title if len(title) <= letters else '…' + title[1 - letters :]
        pixel_text(figure, _MARGIN, _MARGIN + 4, title, fontsize=LABEL_SIZE + 1, weight='bold')
    for band, foot in zip(bands, feet):
        _draw_band(figure, top, band, fields, legends, rows, cell, image, meta or {})
        top += band_height + foot
    return figure_to_rgb(figure)


def image_title(sample: Any) -> str:
    """The name of a sample's image with its folder, ``''`` if it came from no file."""
    return '/'.join(Path(str(entry(sample, 'img_path') or '')).parts[-2:])


def image_from_inputs(inputs: Any) -> np.ndarray:
    """Return packed inputs (uint8 ``(3, H, W)`` BGR) as RGB ``(H, W, 3)``."""
    return np.ascontiguousarray(as_array(inputs)[::-1].transpose(1, 2, 0)).astype(np.uint8)


def _read(sample: Any, name: str, padded: tuple[int, int] | None) -> np.ndarray | None:
    """A field as ``(C, H, W)``; padding is cut off if it was padded together with the picture."""
    array = read_field(sample, name)
    if array is None or array.shape[1:] != padded:
        return array
    return without_padding(array.transpose(1, 2, 0), sample).transpose(2, 0, 1)


def _bands(specs: Sequence[TaskSpec], columns: int) -> list[Sequence[TaskSpec]]:
    """Split the tasks into rows of about equal length."""
    count = max(1, -(-len(specs) // max(columns, 1)))
    length = max(1, -(-len(specs) // count))
    return [specs[start : start + length] for start in range(0, max(len(specs), 1), length)]


def _draw_band(
    figure: Figure,
    top: int,
    specs: Sequence[TaskSpec],
    fields: Mapping[str, tuple[np.ndarray | None, np.ndarray | None]],
    legends: Mapping[str, _Legend],
    rows: Sequence[int],
    cell: _Cell,
    image: np.ndarray | None,
    meta: Mapping[str, Any],
) -> None:
    left = _MARGIN
    tops = {row: top + _HEAD + place * (cell.height + _GAP) for place, row in enumerate(rows)}
    if image is not None:
        pixel_text(figure, left + cell.width / 2, top + _HEAD / 2, 'Input', ha='center')
        _show(figure, image, left, top + _HEAD, cell)
        left += cell.width + _SPACE
    for row, y in tops.items():
        name, _, hatched = _ROWS[row]
        beside = dict(rotation=90, ha='center', color=MUTED)
        pixel_text(figure, left + 7, y + cell.height / 2, name, **beside)
        if any(not _drawn(spec, fields[spec.key][row], row).all() for spec in specs):
            pixel_text(figure, left + 21, y + cell.height / 2, hatched, fontsize=_SMALL, **beside)
    left += _SIDE
    for spec in specs:
        target, pred = fields[spec.key]
        palette = (meta.get('palettes') or {}).get(spec.key)
        shown = target if target is not None else pred
        span = (meta.get('value_ranges') or {}).get(spec.key)
        span = painted_range(spec, shown) if span is None and shown is not None else span
        size = min(LABEL_SIZE, cell.width / (0.0095 * DPI * max(len(spec.title), 1) * 0.75))
        pixel_text(figure, left + cell.width / 2, top + _HEAD / 2, spec.title, ha='center', fontsize=size)
        for row, y in tops.items():
            array = fields[spec.key][row]
            if array is None:
                _show_absent(figure, _ROWS[row][1], left, y, cell)
                continue
            big = cell.enlarge(array)
            pixels = dict(valid=_drawn(spec, big, row), hatch_period=HATCH_PERIOD * cell.shrink)
            rgb = paint(spec, big, palette=palette, value_range=span, **pixels)
            _show(figure, cell.reduce(rgb), left, y, cell)
        if shown is not None:
            foot = max(tops.values()) + cell.height + 5
            _draw_foot(figure, spec, fields[spec.key], legends.get(spec.key), span, meta, left, foot, cell.width)
        left += cell.width + _SPACE


def _room(shape: tuple[int, ...], cell: _Cell) -> tuple[int, int]:
    """Height and width in which something of this shape fits into the cell as it is; rounding is no matter."""
    scale = min(cell.height / shape[0], cell.width / shape[1])
    height, width = max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
    # A map that was thinned out or reduced to whole blocks is some pixels off.
    slack = 1 + cell.zoom + 0.02 * max(cell.height, cell.width)
    pairs = ((cell.height, height), (cell.width, width))
    return tuple(whole if whole - part <= slack else part for whole, part in pairs)


def _fit(image: np.ndarray, cell: _Cell) -> np.ndarray:
    """Bring the picture to the room it has in the cell by taking the nearest pixel, whatever its own size."""
    height, width = _room(image.shape, cell)
    rows = (np.arange(height) + 0.5) * image.shape[0] / height
    columns = (np.arange(width) + 0.5) * image.shape[1] / width
    return image[rows.astype(np.intp)[:, None], columns.astype(np.intp)]


def _show(figure: Figure, rgb: np.ndarray, left: int, top: int, cell: _Cell) -> None:
    rgb = _fit(rgb, cell)
    height, width = rgb.shape[:2]
    pixel_image(figure, left + (cell.width - width) // 2, top + (cell.height - height) // 2, rgb)


def _show_absent(figure: Figure, text: str, left: int, top: int, cell: _Cell) -> None:
    pixel_box(figure, left, top, cell.width, cell.height, facecolor='#f4f4f4', edgecolor=FAINT)
    pixel_text(figure, left + cell.width / 2, top + cell.height / 2, text, ha='center', color=MUTED)


def _draw_foot(
    figure: Figure,
    spec: TaskSpec,
    pair: Sequence[np.ndarray | None],
    legend: _Legend | None,
    span: tuple[float, float] | None,
    meta: Mapping[str, Any],
    left: int,
    top: int,
    width: int,
) -> None:
    """Explain the colours: a legend of classes, a colour bar with its values, or a note."""
    painter = painter_of(spec, next(array for array in pair if array is not None).shape[0])
    if legend is not None:
        _draw_legend(figure, spec, legend, meta, left, top, width)
    elif painter in COLOUR_MAPS and span is not None:
        ramp = matplotlib.colormaps[COLOUR_MAPS[painter]](np.linspace(0, 1, width), bytes=True)[:, :3]
        pixel_image(figure, left, top + 2, np.tile(ramp, (7, 1, 1)))
        pixel_box(figure, left, top + 2, width, 7, fill=False, edgecolor='#bbbbbb')
        for x, text, side in zip((left, left + width), _ends(spec, pair, span), ('left', 'right')):
            pixel_text(figure, x, top + 18, text, fontsize=_SMALL + 0.5, ha=side, color=INK)
        if painter == 'depth' and spec.kind != 'depth':
            pixel_text(figure, left + width / 2, top + 18, 'log code', fontsize=_SMALL, ha='center', color=MUTED)
    elif painter in _NOTES:
        for line, (text, way) in enumerate(zip(_NOTES[painter], learned_frame(meta, spec.key))):
            pixel_text(figure, left, top + 6 + line * _LEGEND_LINE, text.format(way), fontsize=_SMALL, color=MUTED)


def _drawn(spec: TaskSpec, array: np.ndarray | None, row: int) -> np.ndarray:
    """The pixels that have a colour: the labelled ones of a target, all numbers of a prediction."""
    if array is None:
        return np.ones((1, 1), dtype=bool)
    finite = np.isfinite(array).all(axis=0)
    return finite & valid_pixels(spec, array) if row == 0 else finite


def _ends(spec: TaskSpec, pair: Sequence[np.ndarray | None], span: tuple[float, float]) -> tuple[str, str]:
    """What stands at the ends of a colour bar; ``<=`` and ``>=`` where values beyond them have the same colour."""
    low, high = span
    reach = (high - low) or 1.0
    values = [array[:, _drawn(spec, array, row)] for row, array in enumerate(pair) if array is not None]
    below = any((each < low - 1e-6 * reach).any() for each in values)
    above = any((each > high + 1e-6 * reach).any() for each in values)
    decimals = min(max(2 - int(np.floor(np.log10(max(abs(low), abs(high), 1e-9)))), 0), 6)
    unit = f' {spec.unit}' if spec.kind == 'depth' and spec.unit else ''
    texts = (f'{round(value, decimals) + 0.0:.{decimals}f}' for value in span)
    texts = [(text.rstrip('0').rstrip('.') if '.' in text else text) + unit for text in texts]
    return ('≤ ' if below else '') + texts[0], ('≥ ' if above else '') + texts[1]


def _draw_legend(
    figure: Figure,
    spec: TaskSpec,
    legend: _Legend,
    meta: Mapping[str, Any],
    left: int,
    top: int,
    width: int,
) -> None:
    """Name the classes that occur, those of the target first."""
    shown, more, rows = legend
    if not shown:
        pixel_text(figure, left, top + 5, 'nothing labelled', fontsize=_SMALL, color=MUTED)
        return
    names = (meta.get('classes') or {}).get(spec.key) or ()
    palette = class_palette(max(shown) + 1, (meta.get('palettes') or {}).get(spec.key))
    letters = int((width / 2 - 18) / 5.0)
    for place, index in enumerate(shown):
        x, y = left + (place // rows) * width / 2, top + 6 + (place % rows) * _LEGEND_LINE
        name = str(names[index]) if index < len(names) else f'class {index}'
        name = name if len(name) <= letters else name[: letters - 1] + '…'
        pixel_box(figure, x, y - 4, 8, 8, facecolor=palette[index] / 255, edgecolor='#9a9a9a')
        pixel_text(figure, x + 12, y, name, fontsize=_SMALL)
    if more:
        x, y = left + width / 2, top + 6 + (rows - 1) * _LEGEND_LINE
        pixel_text(figure, x, y, f'and {more} more predicted', fontsize=_SMALL, color=MUTED)


class _Legend(NamedTuple):
    """Classes to name, the number of those left out, and the lines of two that this takes."""

    shown: list[int]
    more: int
    lines: int


def _legend(arrays: Sequence[np.ndarray | None], lines: int | None) -> _Legend:
    """What a legend names.

    All classes of the target, the most frequent first, then those that the prediction alone has: the ones that can be
    seen, and more as long as there is room. Where the lines are given, what has room in them.
    """
    orders, seen = [], []
    for array in arrays:
        values = np.empty(0, np.int64) if array is None else array.ravel().astype(np.int64)
        classes, pixels = np.unique(values[values != IGNORE_INDEX], return_counts=True)
        order = np.argsort(-pixels, kind='stable')
        orders.append(classes[order].tolist())
        seen.append(set(classes[pixels >= _SEEN * values.size].tolist()))
    target, predicted = orders
    alone = [index for index in predicted if index not in target]
    total = len(target) + len(alone)
    if lines is None:
        least = len(target) + sum(index in seen[1] for index in alone)
        lines = max(_LEGEND_ROWS, -(-(least + (least < total)) // 2))
    count = total if total <= 2 * lines else 2 * lines - 1
    return _Legend([*target, *alone][:count], total - count, lines)


def _foot_height(specs: Sequence[TaskSpec], legends: Mapping[str, _Legend]) -> int:
    """Room below the maps of a band for what explains their colours."""
    lines = [legends[spec.key].lines for spec in specs if spec.key in legends]
    return 10 + _LEGEND_LINE * max([_LEGEND_ROWS, *lines])
