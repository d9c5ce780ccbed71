"""Reading and drawing of the products of the tasks' gradients."""

import itertools
import json

import numpy as np
import pytest

from mtl_plugins.visualization import (
    draw_layer_conflicts,
    draw_mean_cosines,
    draw_pair_conflicts,
    read_conflicts,
)
from mtl_plugins.visualization.conflicts import common_prefix

from .looks import TASKS, looks_drawn, overlaps

LAYERS = ('backbone.vit.pos_embed', 'backbone.vit.blocks.0.attn', 'backbone.vit.blocks.0.mlp', 'backbone.vit.norm')


def entry(iteration, tasks=('a', 'b', 'c'), layers=LAYERS, seed=0, absent=()):
    """An entry, and the gradients behind it: ``{layer: (K, D)}``."""
    rng = np.random.default_rng([seed, iteration])
    gradients = {layer: rng.normal(size=(len(tasks), 5)) for layer in layers}
    gone = np.isin(tasks, absent)
    gram = {}
    for layer, rows in gradients.items():
        products = np.where(gone[:, None] | gone, np.nan, rows @ rows.T)[np.triu_indices(len(tasks))]
        gram[layer] = [None if np.isnan(value) else value for value in products.tolist()]
    return dict(iter=iteration, tasks=list(tasks), gram=gram), gradients


def write(path, *entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(each) + '\n' for each in entries))
    return path


def cosine(gradients, i, j):
    a, b = (np.concatenate([rows[k] for rows in gradients]) for k in (i, j))
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_cosines_of_layers_of_larger_parts_and_of_all(tmp_path):
    (first, early), (second, late) = entry(0), entry(50)
    conflicts = read_conflicts(write(tmp_path / 'conflicts.jsonl', first, second))
    assert conflicts.iterations == (0, 50)
    assert conflicts.layers == LAYERS
    for time, gradients in enumerate((early, late)):
        for place, layer in enumerate(LAYERS):
            assert conflicts.cosines()[time, place, 0, 2] == pytest.approx(cosine([gradients[layer]], 0, 2))
    parts = conflicts.at_depth(4)
    assert parts.layers == ('backbone.vit.pos_embed', 'backbone.vit.blocks.0', 'backbone.vit.norm')
    block = [late[layer] for layer in LAYERS[1:3]]
    assert parts.cosines()[1, 1, 2, 1] == pytest.approx(cosine(block, 1, 2))
    assert conflicts.whole().cosines()[1, 0, 0, 1] == pytest.approx(cosine(list(late.values()), 0, 1))
    assert conflicts.with_at_most(3).layers == parts.layers
    assert len(conflicts.with_at_most(4).layers) == 4
    assert conflicts.with_at_most(0).layers == ('backbone',)


def test_absent_tasks_and_layers_that_are_shared_later(tmp_path):
    early, _ = entry(0, tasks=('a', 'b'), layers=LAYERS[:2])
    late, gradients = entry(10, tasks=('b', 'a', 'c'), absent=('c',))
    conflicts = read_conflicts(write(tmp_path / 'conflicts.jsonl', early, late))
    assert conflicts.tasks == ('a', 'b', 'c')
    assert np.isnan(conflicts.products[0, 2:]).all()
    whole = conflicts.whole().cosines()
    assert whole[1, 0, 0, 1] == pytest.approx(cosine(list(gradients.values()), 0, 1))
    assert np.isnan(whole[:, 0, 2]).all()
    assert np.isfinite(whole[0, 0, 0, 1])
    for draw in (draw_mean_cosines, draw_layer_conflicts, draw_pair_conflicts):
        assert '–' in {text.get_text() for text in draw(conflicts).axes[0].texts} or draw is draw_layer_conflicts


def test_a_resumed_run_is_one(tmp_path):
    write(tmp_path / '20260101_000000' / 'conflicts.jsonl', *(entry(i)[0] for i in (0, 10, 20)))
    write(tmp_path / '20260102_000000' / 'conflicts.jsonl', *(entry(i, seed=1)[0] for i in (20, 30)))
    conflicts = read_conflicts(tmp_path)
    assert conflicts.iterations == (0, 10, 20, 30)
    assert conflicts.products[2, 0, 0, 0] == pytest.approx(entry(20, seed=1)[0]['gram'][LAYERS[0]][0])


@pytest.mark.parametrize('count', [2, pytest.param(5, marks=pytest.mark.slow), 11])
def test_figures_are_readable(tmp_path, count):
    layers = [f'backbone.blocks.{number}.norm' for number in range(24)]
    entries = [entry(i, tasks=TASKS[:count], layers=layers)[0] for i in range(0, 230, 10)]
    conflicts = read_conflicts(write(tmp_path / 'conflicts.jsonl', *entries))
    for name, draw in dict(cosines=draw_mean_cosines, layers=draw_layer_conflicts, pairs=draw_pair_conflicts).items():
        figure = draw(conflicts, tmp_path / 'figures' / f'{name}.png')
        if (count, name) != (2, 'pairs'):
            looks_drawn(tmp_path / 'figures' / f'{name}.png')
        assert overlaps(figure) == []
        assert all(text.get_window_extent().x1 < figure.bbox.width for text in figure.texts)


def test_rates(tmp_path):
    """Two pairs always in conflict, one never, over 20 measurements in 10 columns."""
    gram = {'x.one': [1, -0.5, 0.5, 1, -0.5, 1], 'x.two': [1, 0, -0.1, 1, -0.1, 1]}
    entries = [dict(iter=i, tasks=['a', 'b', 'c'], gram=gram) for i in range(20)]
    conflicts = read_conflicts(write(tmp_path / 'conflicts.jsonl', *entries))
    axes = draw_layer_conflicts(conflicts).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ['one', 'two']
    assert [label.get_text() for label in axes.get_xticklabels()] == [*map(str, range(0, 20, 2)), 'all']
    assert [text.get_text() for text in axes.texts] == ['67'] * 22
    axes = draw_pair_conflicts(conflicts).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ['a | b', 'b | c', 'a | c']
    cells = [text.get_text() for text in axes.texts]
    assert [cells[start : start + 11] for start in (0, 11, 22)] == [['100'] * 11, ['100'] * 11, ['0'] * 11]
    axes = draw_mean_cosines(conflicts).axes[0]
    assert [text.get_text() for text in axes.texts] == [
        '–',
        '−0.25',
        '0.20',
        '−0.25',
        '–',
        '−0.30',
        '0.20',
        '−0.30',
        '–',
    ]


def test_too_many_rows_are_thinned_out(tmp_path):
    tasks = [f'task{number}' for number in range(12)]
    layers = [f'x.{number}' for number in range(100)]
    conflicts = read_conflicts(write(tmp_path / 'conflicts.jsonl', entry(0, tasks, layers)[0]))
    assert len(draw_layer_conflicts(conflicts).axes[0].get_yticklabels()) == 40
    pairs = len(list(itertools.combinations(tasks, 2)))
    figure = draw_pair_conflicts(conflicts)
    assert any(f'the 40 worst of {pairs} pairs' in ' '.join(text.get_text().split()) for text in figure.texts)


def test_the_modules_that_all_layers_lie_in():
    assert common_prefix(LAYERS) == 'backbone.vit.'
    assert common_prefix(('backbone.vit', 'backbone.vit.norm')) == 'backbone.'
    assert common_prefix(('a', 'b.c')) == ''


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ({'iter': 1, 'tasks': ['a', 'b']}, 'line 1: not an entry of a log of gradient conflicts: gram missing'),
        ({'iter': 1, 'tasks': ['a', 'b'], 'gram': {'x': [1, 2]}}, r"gram needs 3 numbers per layer .* \['x'\] has not"),
    ],
)
def test_broken_logs_are_explained(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        read_conflicts(write(tmp_path / 'conflicts.jsonl', line, entry(2)[0]))


def test_missing_logs_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'has no conflicts\.jsonl.*GradientConflictHook.*writes it'):
        read_conflicts(tmp_path)
