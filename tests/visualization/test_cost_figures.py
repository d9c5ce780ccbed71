import pytest

from mtl_plugins.visualization.bars import CostBar, PartCost, draw_costs, draw_parts, short
from mtl_plugins.visualization.figure import shorten

from .looks import looks_drawn, overlaps


@pytest.mark.parametrize('count', [2, 9])
def test_figures_are_readable(tmp_path, count):
    costs = [CostBar(f'stgu[grouper.type=Random{i}], M=5', 1 + i, (0.9 + i, 1.5 + i), 1.0) for i in range(count)]
    parts = [PartCost(f'heads.principal_curvature{i}', 10**i, 7 * 10**i) for i in range(count)]
    note = 'batches of 8 images of 448 x 576, fp32; NVIDIA H100 80GB HBM3'
    figures = [
        draw_costs(costs, 'Cost of a batch in units of gd', note, tmp_path / 'costs.png'),
        draw_parts(parts, 'Where the model is large', 'One image', tmp_path / 'parts.png'),
    ]
    for figure, name in zip(figures, ('costs', 'parts')):
        looks_drawn(tmp_path / f'{name}.png')
        assert overlaps(figure) == []


def test_numbers_are_written_behind_the_bars():
    axes, memory = draw_costs([CostBar('gd', 1, (0.9, 1.1), 1), CostBar('b', 2.5, (2, 3), 0.5)], 't', 'n').axes
    assert [text.get_text() for text in axes.texts] == ['1.00', '2.50']
    assert [text.get_text() for text in memory.texts] == ['1.00', '0.50']
    assert axes.get_xlim()[1] > 3
    left, right = draw_parts([PartCost('a', 1000, 3), PartCost('b', 3000, 0)], 't', 'n').axes
    assert [text.get_text() for text in left.texts] == ['25.0 %  1 k', '75.0 %  3 k']
    assert [text.get_text() for text in right.texts] == ['100.0 %  3', '0.0 %  0']


def test_counts_are_shortened():
    assert [short(value) for value in (0, 12, 1234, 5.6e6, 4.16e8, 7e9, 2e12)] == [
        '0', '12', '1.23 k', '5.6 M', '416 M', '7 G', '2 T'
    ]  # fmt: skip


def test_long_names_lose_their_middle():
    assert shorten('gd') == 'gd'
    short_name = shorten('stgu[grouper.type=Random,grouper.max_groups=2]', 16)
    assert len(short_name) == 16
    assert short_name.startswith('stgu[')
    assert short_name.endswith('=2]')


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match='at least one method'):
        draw_costs([], '', '')
    with pytest.raises(ValueError, match='at least one part'):
        draw_parts([], '', '')
