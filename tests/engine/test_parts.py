"""Parts of a method from their configs: names, defaults, and what is said of wrong ones."""

from types import UnionType
from typing import get_args, get_type_hints

import pytest

from mtl_plugins.engine.methods import build_part
from mtl_plugins.methods import PositiveAffinity, ProximalAffinity
from mtl_plugins.registry import AFFINITIES, AGGREGATORS, GROUPERS, WEIGHTINGS


def test_a_part_is_built_from_a_name_with_or_without_prefix_or_a_class():
    for kind in ('PositiveAffinity', 'mtl_plugins.PositiveAffinity', PositiveAffinity):
        cfg = dict(type=kind, max_groups=2)
        part = build_part(GROUPERS, cfg, 'grouper')
        assert type(part) is PositiveAffinity
        assert part.max_groups == 2
        assert cfg == dict(type=kind, max_groups=2), 'a config is used again, for the next run'


def test_the_config_goes_before_the_defaults():
    assert build_part(AFFINITIES, dict(type='ProximalAffinity'), 'affinity', num_tasks=3, decay=0.5).decay == 0.5
    part = build_part(AFFINITIES, dict(type='ProximalAffinity', decay=0.1), 'affinity', num_tasks=3, decay=0.5)
    assert (type(part), part.num_tasks, part.decay) == (ProximalAffinity, 3, 0.1)


@pytest.mark.parametrize('cfg', ['PositiveAffinity', None, {}, dict(max_groups=2), ['type']])
def test_what_is_no_config_is_refused(cfg):
    with pytest.raises(TypeError, match=r'^grouper must be a dict with a type'):
        build_part(GROUPERS, cfg, 'grouper')


@pytest.mark.parametrize('registry', [AFFINITIES, AGGREGATORS, GROUPERS, WEIGHTINGS], ids=lambda each: each.name)
def test_near_matches_of_a_misspelt_name_and_else_all_names(registry):
    for name in registry.module_dict:
        with pytest.raises(KeyError, match=rf'the_argument: there is no {registry.name} .*did you mean .*\b{name}\b'):
            build_part(registry, dict(type=name + 'x'), 'the_argument')
    with pytest.raises(KeyError, match=', '.join(sorted(registry.module_dict))):
        build_part(registry, dict(type='0123456789'), 'the_argument')


@pytest.mark.parametrize('options', [dict(nosuch=1), dict(max_groups=0)])
def test_what_the_class_refuses_is_named_with_the_argument(options):
    with pytest.raises((TypeError, ValueError), match='PositiveAffinity') as error:
        build_part(GROUPERS, dict(type='PositiveAffinity', **options), 'grouper')
    assert str(error.value).startswith('grouper=dict(type="PositiveAffinity", ...)')


def test_no_base_class_can_be_named():
    for registry, names in ((GROUPERS, ['Grouper', 'SimilarityGrouper']), (WEIGHTINGS, ['Weighting'])):
        for name in names:
            with pytest.raises(KeyError, match='there is no'):
                build_part(registry, dict(type=name), 'part')


REGISTRIES = [AFFINITIES, AGGREGATORS, GROUPERS, WEIGHTINGS]
OTHER_KINDS = {
    float: ['x', None, True, [1.0], float('nan')],
    int: ['x', 1.5, True, []],
    bool: ['x', 2],
    str: [3, ['x']],
}


@pytest.mark.parametrize(
    ('registry', 'name'), [(registry, name) for registry in REGISTRIES for name in registry.module_dict]
)
def test_arguments_of_another_kind_are_refused_by_name(registry, name):
    """Rather than by what Python says of comparing them."""
    for argument, hint in get_type_hints(registry.module_dict[name].__init__).items():
        members = set(get_args(hint)) if isinstance(hint, UnionType) else {hint}
        if members - {*OTHER_KINDS, type(None)} or members == {type(None)}:
            continue  # a class, a list or a dict
        for value in (value for kind in members & {*OTHER_KINDS} for value in OTHER_KINDS[kind]):
            if type(value) in members and value == value:
                continue
            with pytest.raises(TypeError, match=rf'{name}", \.\.\.\): {argument} must be .* but got'):
                build_part(registry, dict(type=name, **{argument: value}), 'part')
