"""What all figures share: canvas, colours, text sizes, saving. No pyplot, hence no global state."""

import colorsys
import os
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import IdentityTransform
from PIL import Image

from mtl_plugins.utils.files import replacing

DPI = 100
INK = '#1f1f1f'
MUTED = '#6b6b6b'
FAINT = '#d9d9d9'
TITLE_SIZE = 11
LABEL_SIZE = 9
TICK_SIZE = 8

# The colours of Okabe and Ito (2008), then darker ones of Paul Tol's muted scheme: told apart with any colour vision.
_DISTINCT = (
    '#0072B2', '#E69F00', '#009E73', '#CC79A7', '#56B4E9', '#D55E00', '#F0E442', '#332288', '#882255', '#999933',
    '#888888', '#44AA99',
)  # fmt: skip


def distinct_colours(count: int) -> list[str]:
    """Return ``count`` colours as hex strings; the first twelve suit any colour vision."""
    extra = []
    for index in range(max(count - len(_DISTINCT), 0)):
        rgb = colorsys.hls_to_rgb((0.13 + index * 0.618034) % 1, (0.35, 0.55, 0.75)[index % 3], 0.55)
        extra.append('#' + ''.join(f'{round(255 * channel):02x}' for channel in rgb))
    return [*_DISTINCT[:count], *extra]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure of ``width`` x ``height`` pixels with an Agg canvas."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor='white')
    FigureCanvasAgg(figure)
    return figure


def new_chart(width: float, height: float, title: str, note: str = '', **options) -> tuple[Figure, Any]:
    """Return a figure with a heading and a note below the data, and its axes; matplotlib makes room for labels.

    Args:
        width: Of the figure, in pixels.
        height: Likewise.
        title: Heading.
        note: Text at the bottom.
        **options: Of ``Figure.subplots``.
    """
    figure = new_figure(width, height)
    figure.set_layout_engine('constrained', w_pad=0.12, h_pad=0.08)
    axes = figure.subplots(**options)
    figure.suptitle(title, x=0.02, ha='left', fontsize=TITLE_SIZE, weight='bold', color=INK, parse_math=False)
    note = textwrap.fill(note, int(width / 6.4))
    figure.supxlabel(note, x=0.02, ha='left', fontsize=TICK_SIZE, color=MUTED, parse_math=False)
    return figure, axes


def pixel_image(figure: Figure, left: int, top: int, rgb: np.ndarray) -> None:
    """Show a picture, a pixel as a pixel, at a place given in pixels from the upper left corner of the figure."""
    figure.figimage(rgb, left, round(figure.bbox.height) - top - len(rgb), origin='upper')


def pixel_box(figure: Figure, left: float, top: float, width: float, height: float, **options) -> None:
    """Draw a rectangle, likewise; ``options`` are those of the patch."""
    corner = (left, figure.bbox.height - top - height)
    options = dict(transform=IdentityTransform(), linewidth=0.8, **options)
    figure.add_artist(Rectangle(corner, width, height, **options))


def pixel_text(figure: Figure, left: float, top: float, text: str, **options) -> None:
    """Write text at a place given in pixels from the upper left corner of the figure."""
    options = {'fontsize': LABEL_SIZE, 'color': INK, 'ha': 'left', 'va': 'center', **options}
    # Names of files and classes may hold anything: bytes that are no text, and dollars, which are no formulas.
    text = text.encode('utf-8', 'replace').decode()
    figure.text(left / figure.bbox.width, 1 - top / figure.bbox.height, text, parse_math=False, **options)


def shorten(text: str, letters: int = 28) -> str:
    """``text`` with its middle left out if it is longer than ``letters``."""
    if len(text) <= letters:
        return text
    head = (letters - 1) * 2 // 3
    return f'{text[:head]}…{text[len(text) - (letters - 1 - head) :]}'


def clean(axes: Axes) -> None:
    """Take the upper and right frame lines away and mute the others."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color(MUTED)
    axes.tick_params(labelsize=TICK_SIZE, color=MUTED, labelcolor=INK)


def figure_to_rgb(figure: Figure) -> np.ndarray:
    """Render a figure to ``(H, W, 3)`` uint8 RGB, as the Visualizer's ``add_image`` takes it."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def save_image(rgb: np.ndarray, path: str | os.PathLike) -> Path:
    """Write an RGB array to a PNG file; folders are made, and the file appears as a whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        Image.fromarray(rgb).save(temporary, format='PNG')
    return path


def save_figure(figure: Figure, path: str | os.PathLike) -> Path:
    """Render a figure to a PNG file; see :func:`save_image`."""
    return save_image(figure_to_rgb(figure), path)


def finished(figure: Figure, path: str | os.PathLike | None) -> Figure:
    """The figure, after it was written to ``path`` if that is not None."""
    if path is not None:
        save_figure(figure, path)
    return figure
