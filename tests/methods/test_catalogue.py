import re
from fractions import Fraction
from pathlib import Path

import pytest

import mtl_plugins.methods as methods
from mtl_plugins.methods import StepCost, format_catalogue, get_method, list_methods

KEYS = (
    'gd uw dwa dtp rlw gls imtl_l slaw famo stch bmtl gradnorm emtl uw_so go4align ldc_mtl igb mgda pcgrad gradvac '
    'graddrop cagrad imtl_g imtl nash_mtl aligned_mtl fairgrad conicgrad ngdiff upgrad dualproj db_mtl excess_mtl '
    'con_fig moco sdmgrad modo pcd cr_mogm f_mtl samo ada_task stgu stgu_released son_goku phases'
)
UNVERIFIED = {'bmtl', 'emtl', 'conicgrad', 'ngdiff'}


def test_rows_are_complete_and_name_existing_classes():
    assert [row.key for row in list_methods()] == KEYS.split()
    for row in list_methods():
        assert get_method(row.key) is row
        assert all((row.title, row.kind, row.wrapper, row.cost, row.verified))
        assert bool(row.paper) == (row.key != 'gd')
        assert re.fullmatch(r'(\d{4}\.\d{5})?', row.arxiv)
        assert ('unverified' in row.verified) == (row.key in UNVERIFIED)
        for part in row.parts:
            assert hasattr(methods, part), f'{row.key} names the unknown class {part}'


def types_in(cfg):
    """All values of ``type`` in a nested config."""
    if isinstance(cfg, dict):
        return [cfg['type']] * ('type' in cfg) + [name for value in cfg.values() for name in types_in(value)]
    return []


@pytest.mark.parametrize('row', list_methods(), ids=lambda row: row.key)
def test_the_config_fragment_of_a_method_agrees_with_its_row(row):
    fragment = Path(__file__).parents[2] / 'configs' / '_base_' / 'methods' / f'{row.key}.py'
    settings = {}
    exec(fragment.read_text(), settings)
    wrapper, *parts = types_in(settings['optim_wrapper'])
    assert wrapper == f'mtl_plugins.{row.wrapper}'
    used = {part.removeprefix('mtl_plugins.') for part in parts} - {'AdaTask'}
    # The affinity tracker and the grouper of stgu_released are defaults of its wrapper.
    assert used == set(row.parts) or (row.key == 'stgu_released' and used <= set(row.parts))
    assert ('unverified' in fragment.read_text().lower()) == ('unverified' in row.verified)


@pytest.mark.parametrize(
    ('key', 'num_groups', 'expected'),
    [
        ('gd', 1, StepCost(1, 1, 1)),
        ('famo', 1, StepCost(1, 1, 1, Fraction(1))),
        ('mgda', 1, StepCost(1, 6, 1)),
        ('f_mtl', 1, StepCost(7, 12, 1)),
        ('samo', 1, StepCost(7, 7, 1, Fraction(12))),
        ('ada_task', 1, StepCost(1, 6, 1)),
        ('stgu', 1, StepCost(1, 1, 1, Fraction(1, 10))),
        ('stgu', 4, StepCost(4, 4, 4, Fraction(1, 10))),
        ('stgu_released', 1, StepCost(2, 2, 2)),
        ('stgu_released', 4, StepCost(4, 4, 4)),
    ],
)
def test_cost_per_batch(key, num_groups, expected):
    assert get_method(key).step_cost(6, num_groups, probe_interval=10) == expected


def test_cost_relative_to_one_ordinary_step():
    assert get_method('gd').step_cost(6).relative == 1.0
    assert get_method('stgu').step_cost(6, 3).relative == 3.0
    assert get_method('stgu').step_cost(6, 3, probe_interval=2).relative == pytest.approx(3 + 1 / 6)


def test_near_matches_of_an_unknown_method():
    with pytest.raises(KeyError, match="unknown method 'stgy': did you mean 'stgu'"):
        get_method('stgy')
    with pytest.raises(KeyError, match="unknown method 'zzz': known: gd, uw, dwa"):
        get_method('zzz')


def test_arguments_of_the_cost_are_checked():
    with pytest.raises(ValueError, match='between 1 and num_tasks=3, but got 4'):
        get_method('stgu').step_cost(3, 4)
    with pytest.raises(ValueError, match='must not be negative'):
        get_method('stgu').step_cost(3, 2, probe_interval=-1)


@pytest.mark.parametrize('width', [80, 200])
def test_the_table_names_every_method_and_keeps_to_the_width(width):
    text = format_catalogue(width=width)
    assert max(map(len, text.splitlines())) <= width
    for row in list_methods():
        assert row.key in text
    assert '\x1b' not in text
