"""From targets and predictions to colours: one painter per kind of map."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from skimage.color import lab2rgb

from mtl_plugins.errors import UserError, UserKeyError
from mtl_plugins.structures.fields import as_array, valid_pixels
from mtl_plugins.task_specs import TaskSpec

from .figure import distinct_colours

Range = tuple[float, float] | None

COLOUR_MAPS = {'depth': 'viridis_r', 'probability': 'magma', 'grey': 'gray'}
"""Perceptually uniform maps of the painters that show one number per pixel."""

_HATCH = ((168, 168, 168), (200, 200, 200))
HATCH_PERIOD = 6
_LAB_LIGHTNESS, _LAB_REACH = 65.0, 100.0


def paint(
    spec: TaskSpec,
    data: Any,
    *,
    palette: Sequence[Sequence[int]] | None = None,
    value_range: Range = None,
    valid: np.ndarray | None = None,
    hatch_period: int = HATCH_PERIOD,
) -> np.ndarray:
    """Draw a target or a prediction.

    Args:
        spec: The task; its ``painter`` says how.
        data: Tensor or array ``(C, H, W)``, or ``(H, W)`` for one channel.
        palette: RGB (0..255) of each class, for ``'classes'``; made up if None.
        value_range: Values at the ends of the colours; defaults to that of the task, then to that of the data
            (:func:`painted_range`).
        valid: Mask ``(H, W)`` of the pixels to draw; defaults to the labelled ones. For predictions give all pixels, or
            a depth of 0 looks like a missing one.
        hatch_period: Distance of the stripes in pixels, see :func:`hatch`.

    Returns:
        RGB ``(H, W, 3)`` uint8. Pixels that are not valid carry a grey diagonal hatch, which no painter draws.

    Raises:
        KeyError: If the task names an unknown painter.
        ValueError: If the data do not suit the painter.
    """
    array = as_array(data)
    if spec.painter not in PAINTERS:
        raise UserKeyError(
            f"task '{spec.key}' names the painter '{spec.painter}', but there are: {', '.join(PAINTERS)}"
        )
    painter = painter_of(spec, array.shape[0])
    valid = valid_pixels(spec, array) if valid is None else np.asarray(valid, dtype=bool)
    # A value that is not a number has no colour, whatever the caller says.
    valid = valid & np.isfinite(array).all(axis=0)
    if value_range is None:
        value_range = painted_range(spec, array, valid=valid)
    try:
        colours = PAINTERS[painter](np.where(valid, array, 0), value_range, palette)
    except UserError as error:
        raise UserError(f"cannot draw task '{spec.key}': {error}") from error
    return np.where(valid[..., None], colours, hatch(valid.shape, hatch_period))


def painter_of(spec: TaskSpec, channels: int) -> str:
    """Return the painter for data with this number of channels.

    That of the task; but what one dataset stores as grey values may be colours in another, and the data decide.
    """
    if spec.painter in ('grey', 'rgb'):
        return 'grey' if channels == 1 else 'rgb'
    return spec.painter


def painted_range(spec: TaskSpec, data: Any, valid: np.ndarray | None = None) -> Range:
    """Return the values at the ends of the colours for ``data``, None for painters without a scale.

    That of the task if it has one; for depth the extremes of the valid pixels; for curvature symmetric about 0, up to
    the 98th percentile of the size, since a few sharp creases would leave the rest without contrast.
    """
    if spec.painter in ('classes', 'normals'):
        return None
    if spec.value_range is not None:
        return spec.value_range
    if spec.painter == 'probability':
        return (0.0, 1.0)
    array = as_array(data)
    valid = valid_pixels(spec, array) if valid is None else valid
    values = array[:, valid & np.isfinite(array).all(axis=0)]
    if not values.size:
        return (-1.0, 1.0) if spec.painter == 'curvature' else (0.0, 1.0)
    if spec.painter == 'curvature':
        reach = float(np.percentile(np.abs(values), 98)) or float(np.abs(values).max()) or 1.0
        return (-reach, reach)
    return float(values.min()), float(values.max())


def hatch(shape: tuple[int, int], period: int = HATCH_PERIOD) -> np.ndarray:
    """Return the grey diagonal stripes ``(H, W, 3)`` that stand for "not labelled", ``period`` pixels apart."""
    rows, columns = np.indices(shape)
    stripes = (rows + columns) % period < period / 2
    return np.array(_HATCH, dtype=np.uint8)[stripes.astype(np.intp)]


def class_palette(count: int, palette: Sequence[Sequence[int]] | None = None) -> np.ndarray:
    """Return ``palette`` as ``(count, 3)`` uint8, or distinct colours if it is None.

    Raises:
        ValueError: If the palette has fewer than ``count`` colours.
    """
    if palette is None:
        colours = [to_rgb(colour) for colour in distinct_colours(count)]
        return np.round(255 * np.array(colours).reshape(-1, 3)).astype(np.uint8)
    if len(palette) < count:
        raise UserError(f'the palette has {len(palette)} colours, but class {count - 1} occurs')
    return np.asarray(palette, dtype=np.uint8).reshape(-1, 3)


def _unit_interval(values: np.ndarray, value_range: Range) -> np.ndarray:
    low, high = value_range
    return np.clip((values - low) / ((high - low) or 1.0), 0, 1)


def _bytes(rgb: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip(rgb, 0, 1)).astype(np.uint8)


def _needs(array: np.ndarray, *channels: int) -> None:
    if array.shape[0] not in channels:
        raise UserError(f'its painter needs {" or ".join(map(str, channels))} channels, but got {array.shape[0]}')


def _classes(array: np.ndarray, value_range: Range, palette: Sequence[Sequence[int]] | None) -> np.ndarray:
    _needs(array, 1)
    indices = array[0].astype(np.int64)
    if indices.min(initial=0) < 0:
        raise UserError(f'class indices must not be negative, but the smallest is {indices.min()}')
    return class_palette(int(indices.max(initial=0)) + 1, palette)[indices]


def _mapped(name: str) -> Callable[..., np.ndarray]:
    def painter(array: np.ndarray, value_range: Range, palette: object) -> np.ndarray:
        _needs(array, 1)
        return _bytes(matplotlib.colormaps[name](_unit_interval(array[0], value_range))[..., :3])

    return painter


def _normals(array: np.ndarray, value_range: Range, palette: object) -> np.ndarray:
    """Red to the right, green up, blue towards the viewer."""
    _needs(array, 3)
    return _bytes((array.transpose(1, 2, 0) + 1) / 2)


def _rgb(array: np.ndarray, value_range: Range, palette: object) -> np.ndarray:
    """Three channels as red, green, blue; two as the colour axes of CIE Lab at one lightness."""
    _needs(array, 2, 3)
    unit = _unit_interval(array, value_range)
    if array.shape[0] == 3:
        return _bytes(unit.transpose(1, 2, 0))
    lab = np.full((*array.shape[1:], 3), _LAB_LIGHTNESS)
    lab[..., 1:] = ((2 * unit - 1) * _LAB_REACH).transpose(1, 2, 0)
    return _bytes(lab2rgb(lab))


def _curvature(array: np.ndarray, value_range: Range, palette: object) -> np.ndarray:
    """Grey where flat; the first curvature moves along orange to dark blue, the second along light blue to brown."""
    _needs(array, 2)
    first, second = 2 * _unit_interval(array, value_range) - 1
    return _bytes(0.5 + np.stack([first / 2, (first + second) / 4, second / 2], axis=-1))


PAINTERS: dict[str, Callable[..., np.ndarray]] = {
    'classes': _classes,
    **{painter: _mapped(name) for painter, name in COLOUR_MAPS.items()},
    'normals': _normals,
    'rgb': _rgb,
    'curvature': _curvature,
}
"""Painter -> ``f(data (C, H, W), value_range, palette) -> uint8 (H, W, 3)``. Add own ones here."""
