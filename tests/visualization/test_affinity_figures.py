import json

import matplotlib
import numpy as np
import pytest

from mtl_plugins.visualization import (
    draw_affinity,
    draw_affinity_curves,
    draw_affinity_panels,
    draw_group_timeline,
    figure_to_rgb,
    read_affinity_log,
    read_run,
    strongest_pairs,
)
from mtl_plugins.visualization.affinity import colour_limit
from mtl_plugins.visualization.groups import group_leaders

from .looks import TASKS, looks_drawn, overlaps


def _matrix(count, scale=1e-3):
    matrix = np.random.default_rng(count).normal(0, scale, (count, count))
    np.fill_diagonal(matrix, 20 * scale)
    return matrix


@pytest.mark.parametrize('count', [1, 2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 5, 8)), 11])
def test_figures_are_readable_for_any_number_of_tasks(tmp_path, count):
    tasks, matrix = TASKS[:count], _matrix(count)
    iterations = list(range(10, 510, 10))
    groups = [[[task] for task in tasks] if i % 20 else [list(tasks)] for i in iterations]
    figures = [
        draw_affinity(matrix, tasks, 'After 10 iterations', tmp_path / 'sub' / 'affinity.png'),
        draw_group_timeline(iterations, groups, tasks, tmp_path / 'sub' / 'groups.png'),
        draw_affinity_curves(iterations, [matrix] * 50, tasks, path=tmp_path / 'sub' / 'curves.png'),
        draw_affinity_panels(iterations, [matrix] * 50, tasks, path=tmp_path / 'sub' / 'panels.png'),
    ]
    for path in (tmp_path / 'sub').iterdir():
        looks_drawn(path)
    assert len(list((tmp_path / 'sub').iterdir())) == 4
    for figure in figures:
        assert overlaps(figure) == []


def test_heat_map_says_row_and_column():
    matrix = np.zeros((2, 2))
    matrix[0, 1], matrix[1, 0] = 0.5, -0.5
    figure = draw_affinity(matrix, ['a', 'b'])
    axes = figure.axes[0]
    assert axes.get_ylabel() == 'stepping task'
    assert axes.get_xlabel() == 'affected task'
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells[(1, 0)] == '0.50'
    assert cells[(0, 1)] == '−0.50'
    picture = axes.images[0]
    assert picture.norm.vmin == -picture.norm.vmax == -0.5


def test_small_numbers_share_a_power_of_ten_and_missing_ones_are_marked():
    matrix = _matrix(3, 1e-5)
    matrix[0, 1] = np.nan
    figure = draw_affinity(matrix, TASKS[:3])
    assert any('10⁻⁵' in axes.get_ylabel() for axes in figure.axes)
    cells = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert cells[(1, 0)] == '–'
    assert all('e-' not in text for text in cells.values())


@pytest.mark.parametrize(
    ('matrix', 'limit'), [([[9, 1], [-2, 9]], 2), ([[9.0]], 9), ([[0, 0], [0, 0]], 1), ([[3, np.nan], [np.inf, 3]], 3)]
)
def test_the_diagonal_does_not_set_the_colours(matrix, limit):
    assert colour_limit(np.array(matrix, dtype=float)) == limit


def test_strongest_pairs():
    history = np.zeros((4, 3, 3))
    history[:, 0, 0] = 100
    history[1, 2, 0] = -5
    history[3, 0, 1] = 4
    history[2, 1, 2] = np.nan
    assert strongest_pairs(history, ['a', 'b', 'c'], 2) == [('c', 'a'), ('a', 'b')]
    assert strongest_pairs(history[:, :1, :1], ['a']) == [('a', 'a')]


def test_a_group_has_the_colour_of_its_first_task_in_any_order():
    tasks = ['a', 'b', 'c', 'd']
    for partition in ([['a'], ['b', 'd'], ['c']], [['c'], ['d', 'b'], ['a']]):
        assert group_leaders(partition, tasks).tolist() == [0, 1, 2, 1]


def test_long_runs_are_drawn_too(tmp_path):
    iterations = list(range(1, 20_001))
    groups = [[['a', 'b']] if i < 10_000 else [['a'], ['b']] for i in iterations]
    draw_group_timeline(iterations, groups, ['a', 'b'], tmp_path / 'groups.png')
    looks_drawn(tmp_path / 'groups.png')


def test_drawing_leaves_no_global_state():
    before = dict(matplotlib.rcParams)
    figure_to_rgb(draw_affinity(_matrix(2), ['a', 'b']))
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ('draw', 'message'),
    [
        (lambda: draw_affinity(np.zeros((2, 3)), ['a', 'b']), r'shape \(K, K\) for 2 tasks, but got \(2, 3\)'),
        (lambda: draw_affinity_curves([1], np.zeros((2, 1, 1)), ['a']), r'but got \(2, 1, 1\)'),
        (lambda: draw_affinity_curves([1], np.zeros((1, 1, 1)), ['a'], [('a', 'x')]), 'pairs name x'),
        (lambda: draw_affinity_curves([1], np.zeros((1, 1, 1)), ['a'], []), 'between 1 and 12 pairs'),
        (lambda: draw_group_timeline([1, 2], [[['a']]], ['a']), 'but got 1 for 2'),
        (lambda: draw_group_timeline([2, 1], [[['a']]] * 2, ['a']), 'iterations must increase'),
        (lambda: draw_group_timeline([1], [[['x']]], ['a']), 'groups name x'),
        (lambda: draw_group_timeline([1], [[['a'], ['a']]], ['a']), 'one group only'),
    ],
)
def test_wrong_input(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def _entry(iteration, tasks=('a', 'b'), value=0.0):
    return dict(
        iter=iteration, tasks=list(tasks), affinity=[[value] * 2] * 2, groups=[[t] for t in tasks], num_groups=2
    )  # fmt: skip


def _write(path, entries, tail=''):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(entry) + '\n' for entry in entries) + tail)
    return path


def test_a_log_with_a_torn_last_line_is_read(tmp_path):
    entries = [_entry(1), _entry(2)]
    for tail in ('', '\n', '{"iter": 3, "ta', '{"iter": 3}'):
        assert read_affinity_log(_write(tmp_path / 'affinity.jsonl', entries, tail)) == entries


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('{"iter": 1', 'line 2: not an entry'),
        ('{"iter": 1}', 'line 2: .*tasks, affinity, groups, num_groups missing'),
        (json.dumps(_entry(1, tasks=('a', 'b', 'c'))), r'line 2: .*shape \(2, 2\) for 3 tasks'),
        (json.dumps({**_entry(1), 'affinity': [[{}]]}), 'line 2: .*not a matrix of numbers'),
    ],
)
def test_damage_inside_is_named(tmp_path, line, message):
    path = _write(tmp_path / 'affinity.jsonl', [_entry(0)], f'{line}\n{json.dumps(_entry(2))}\n')
    with pytest.raises(ValueError, match=message):
        read_affinity_log(path)


def test_runs_of_one_work_dir_are_joined(tmp_path):
    _write(tmp_path / '20260101_000000' / 'affinity.jsonl', [_entry(i, value=1.0) for i in (10, 20, 30)])
    _write(tmp_path / '20260102_000000' / 'affinity.jsonl', [_entry(i, value=2.0) for i in (20, 40)])
    _write(tmp_path / '20260103_000000' / 'affinity.jsonl', [])
    entries = read_run(tmp_path)
    assert [(entry['iter'], entry['affinity'][0][0]) for entry in entries] == [(10, 1.0), (20, 2.0), (40, 2.0)]
    assert read_run(tmp_path / '20260101_000000' / 'affinity.jsonl')[-1]['iter'] == 30


def test_what_cannot_be_read_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no file .*affinity'):
        read_affinity_log(tmp_path / 'affinity.jsonl')
    with pytest.raises(FileNotFoundError, match='has no affinity'):
        read_run(tmp_path)
    with pytest.raises(FileNotFoundError, match='no file or folder'):
        read_run(tmp_path / 'x')
    _write(tmp_path / 'a' / 'affinity.jsonl', [])
    with pytest.raises(ValueError, match='no entry yet'):
        read_run(tmp_path)
    _write(tmp_path / 'b' / 'affinity.jsonl', [_entry(1)])
    _write(tmp_path / 'c' / 'affinity.jsonl', [_entry(2, tasks=('a', 'c'))])
    with pytest.raises(ValueError, match=r'different tasks \(a, b; a, c\)'):
        read_run(tmp_path)
