import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_plugins.visualization import figure_to_rgb
from mtl_plugins.visualization.curves import Curve, draw_curves
from mtl_plugins.visualization.front import Choice, draw_front
from mtl_plugins.visualization.intervals import IntervalRow, draw_intervals
from mtl_plugins.visualization.labels import readable, shorten, spread


@given(st.lists(st.floats(-50, 150), min_size=1, max_size=12), st.floats(0.5, 30))
@settings(max_examples=80, deadline=None)
def test_labels_keep_order_distance_and_room(places, gap):
    moved = spread(places, gap, 0, 100)
    room = min(gap, 100 / max(len(places) - 1, 1))
    order = sorted(range(len(places)), key=lambda index: (places[index], index))
    for first, second in itertools.pairwise(order):
        assert moved[second] - moved[first] >= room - 1e-6
    assert min(moved) >= -1e-6
    assert max(moved) <= 100 + 1e-6


def test_labels_move_no_further_than_needed():
    assert spread([10, 50, 90], 5, 0, 100) == [10, 50, 90]
    assert spread([50, 50], 10, 0, 100) == [45, 55]
    assert spread([99, 99], 10, 0, 100) == [90, 100]
    assert spread([], 5, 0, 1) == []


def test_long_names_lose_their_middle():
    assert shorten('gd') == 'gd'
    short = shorten('stgu[grouper.type=Random,grouper.max_groups=2]', 16)
    assert len(short) == 16
    assert short.startswith('stgu[')
    assert short.endswith('=2]')


def test_names_are_dark_enough_to_read():
    assert readable('#1f1f1f') == '#1f1f1f'
    assert readable('#0072B2').lower() == '#0072b2'
    orange = [int(readable('#E69F00')[i : i + 2], 16) for i in (1, 3, 5)]
    assert orange[0] > orange[1] > orange[2]
    assert 0.55 < orange[0] / 0xE6 < 0.85


def colour_found(figure, hexadecimal):
    rgb = np.array([int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5)])
    return (np.abs(figure_to_rgb(figure).astype(int) - rgb).max(-1) < 12).any()


def test_curves_are_drawn_and_named(tmp_path):
    curves = [
        Curve('background', [(1, 0.0), (2, 1.0)]),
        Curve('named', [(1, 0.5), (2, math.nan), (3, 2.0)], '#0072B2'),
        Curve('nothing', [(1, math.nan)], '#D55E00'),
    ]
    figure = draw_curves(curves, 'T', 'x', 'y', level=('here', 1.0), path=tmp_path / 'c.png')
    assert (tmp_path / 'c.png').is_file()
    assert colour_found(figure, '#0072B2')
    assert not colour_found(figure, '#D55E00')
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert 'named' in texts
    assert 'here' in texts
    assert 'background' not in texts
    assert 'nothing' not in texts
    with pytest.raises(ValueError, match='no curve has a finite point'):
        draw_curves(curves[2:], 'T', 'x', 'y')


def test_intervals_have_a_row_each():
    rows = [
        IntervalRow('a', 1.0, (0.5, 1.5), (0.8, 1.2), '#0072B2'),
        IntervalRow('b', math.nan),
        IntervalRow('c', -2.0),
    ]
    figure = draw_intervals(rows, 'T', 'x', level='zero')
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ['a', 'b', 'c']
    assert {'no value', '+1.00', '−2.00', 'zero'} <= {text.get_text() for text in axes.texts}
    assert axes.get_xlim()[0] < -2
    assert axes.get_xlim()[1] > 1.5
    with pytest.raises(ValueError, match='at least one row'):
        draw_intervals([], 'T', 'x')


def test_a_wide_interval_does_not_flatten_the_others():
    rows = [IntervalRow('a', 1.0, (-500, 500), (0.0, 2.0)), IntervalRow('b', -1.0)]
    assert draw_intervals(rows, 'T', 'x').axes[0].get_xlim()[1] < 10


def test_all_choices_are_named_without_overlap():
    rng = np.random.default_rng(0)
    choices = [Choice(f'method{i}', float(rng.choice([1, 1.3, 3, 5])), float(rng.normal())) for i in range(40)]
    figure = draw_front([*choices, Choice('lost', math.nan, 1.0)], ['method0'], 'T', 'x', 'y')
    figure.canvas.draw()
    texts = [text for text in figure.axes[0].texts if text.get_text().startswith('method')]
    assert len(texts) == 40
    boxes = [text.get_window_extent() for text in texts]
    page = figure.bbox
    for index, box in enumerate(boxes):
        assert box.x0 >= page.x0
        assert box.x1 <= page.x1
        assert box.y0 >= page.y0
        assert box.y1 <= page.y1
        for other in boxes[:index]:
            wide = min(box.x1, other.x1) - max(box.x0, other.x0)
            high = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert wide <= 0 or high <= 2
    with pytest.raises(ValueError, match='finite cost above 0'):
        draw_front([Choice('lost', 0.0, 1.0)], [], 'T', 'x', 'y')
