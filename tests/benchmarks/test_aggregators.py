import json
from inspect import isabstract

import pytest

from benchmarks import aggregators
from mtl_plugins.methods import aggregation

# A loaded machine, or one that is slow: what the targets are multiplied with.
GENEROUS = 20


@pytest.mark.slow
def test_no_method_is_slower_than_a_generous_bound():
    figures = aggregators.measure([4, 16], calls=15)
    for name, row in figures.items():
        for count, value in row.items():
            assert value < GENEROUS * aggregators.METHODS[name], f'{name} takes {value:.2f} ms at K = {count}'


def test_every_method_of_products_has_a_target():
    exported = [getattr(aggregation, name) for name in aggregation.__all__]
    kinds = {kind.__name__ for kind in exported if kind.gramian_only and not isabstract(kind)}
    assert set(aggregators.METHODS) == kinds


def test_command_line(tmp_path, capsys):
    path = tmp_path / 'figures.json'
    code = aggregators.main(['--num-tasks', '2', '--calls', '2', '--out', str(path)])
    figures = json.loads(path.read_text())
    assert set(figures) == set(aggregators.METHODS)
    missed = [name for name, row in figures.items() if row['2'] >= aggregators.METHODS[name]]
    assert code == bool(missed)
    assert 'K = 2' in capsys.readouterr().out
