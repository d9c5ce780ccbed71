"""What is asked of every figure."""

import matplotlib
import numpy as np
from PIL import Image

TASKS = (
    'semseg', 'depth', 'normals', 'edge', 'sal', 'human_parts', 'reshading', 'principal_curvature', 'edge_texture',
    'keypoints2d', 'edge_occlusion',
)  # fmt: skip


def overlaps(figure):
    """Pairs of level texts of a figure whose boxes overlap."""
    if figure.stale:
        figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    unseen = {tick.label1 for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for tick in _out_of_view(axis)}
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text().strip() and text not in unseen]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts if not text.get_rotation() % 90]
    return [(a, b) for i, (a, first) in enumerate(boxes) for b, second in boxes[:i] if _meet(first, second)]


def _out_of_view(axis):
    low, high = sorted(axis.get_view_interval())
    return [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]


def _meet(first, second, slack=1.5):
    return (
        min(first.x1, second.x1) - max(first.x0, second.x0) > slack
        and min(first.y1, second.y1) - max(first.y0, second.y0) > slack
    )


def looks_drawn(path):
    """Check that a PNG file holds a figure of a sensible size that nothing is cut off from."""
    pixels = np.asarray(Image.open(path))
    assert pixels.ndim == 3
    assert 150 < pixels.shape[0] < 1200
    assert 250 < pixels.shape[1] < 1400
    assert pixels.std() > 15
    assert len(np.unique(pixels @ np.array([1 << 16, 1 << 8, 1]))) > 30, 'colours'
    frame = np.concatenate([pixels[:2].ravel(), pixels[-2:].ravel(), pixels[:, :2].ravel(), pixels[:, -2:].ravel()])
    assert (frame == 255).all(), 'nothing is cut off'
