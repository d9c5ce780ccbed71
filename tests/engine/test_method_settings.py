"""A resumed method has the settings that its saved state was made with, whatever they are."""

import copy

import pytest
import torch

from mtl_plugins.errors import UserError
from mtl_plugins.runtime.checkpoints.optimizer_settings import method_differences, settings_in_state, wrapper_settings

from .all_methods import QUICK, ROWS, build, read_fragment
from .toy import make_model

OTHERS = {
    'rescale': None,
    'heads': 'weighted',
    'normalise': 'l2',
    'level': 'features',
    'main': 'b',
    'idle_heads': 'step',
}


def built(fragment):
    return build(fragment, make_model())


def saved(fragment, path):
    model = make_model()
    wrapper = build(fragment, model)
    wrapper.attach(model)
    torch.save(wrapper.state_dict(), path)
    return settings_in_state(torch.load(path, weights_only=True))


def another(name, value):
    """A value that the setting may have, too; itself if none is known."""
    last = name.rpartition('.')[2]
    if last == 'pref_vector':
        return [1.0, 2.0, 3.0]
    if last in OTHERS and value != OTHERS[last]:
        return OTHERS[last]
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value / 2 if isinstance(value, float) else value


def with_setting(fragment, name, value):
    fragment = copy.deepcopy(fragment)
    *places, last = name.split('.')
    node = fragment
    for place in places:
        node = node[place]
    node[last] = value
    return fragment


@pytest.mark.parametrize('key', ROWS)
def test_every_setting_of_a_method_is_compared(key, tmp_path):
    fragment = {**read_fragment(key), **QUICK.get(key, {})}
    before = saved(fragment, tmp_path / 'a.pth')
    assert 'method' in before
    assert method_differences(before, built(fragment)) == []
    for name, value in before['method'].items():
        changed = another(name, value)
        if changed == value or name.startswith('strategy '):
            continue
        try:
            now = built(with_setting(fragment, name, changed))
        except (UserError, KeyError):  # out of range, or of a part that the fragment leaves to its default
            continue
        found = method_differences(before, now)
        assert found == [f'optim_wrapper.{name}: {value} in the checkpoint, {changed} now']


@pytest.mark.parametrize(
    ('key', 'changes', 'said'),
    [
        ('pcd', dict(aggregator=dict(type='PCD', main='b')), 'aggregator.main: None in the checkpoint, b now'),
        ('upgrad', dict(normalise='loss'), 'normalise: None in the checkpoint, loss now'),
        ('upgrad', dict(aggregator=dict(type='UPGrad', pref_vector=[1, 2, 1])), 'aggregator.pref_vector: None in'),
        (
            'cr_mogm',
            dict(aggregator=dict(type='CRMOGM', aggregator=dict(type='UPGrad'))),
            'aggregator.aggregator.type: ',
        ),
        ('moco', dict(aggregator=dict(type='MoCo', beta=0.3)), 'aggregator.beta: '),
        ('stgu', dict(affinity=dict(type='ProximalAffinity', decay=0.5)), 'affinity.decay: '),
        ('stgu', dict(idle_heads='step'), 'idle_heads: hold in the checkpoint, step now'),
        ('uw', dict(weighting=dict(type='DWA')), 'weighting.type: '),
        ('phases', dict(every=3), 'every: 4 in the checkpoint, 3 now'),
        ('phases', dict(joint=dict(type='mtl_plugins.SAMOOptimWrapper')), 'strategy '),
    ],
)
def test_examples(key, changes, said, tmp_path):
    fragment = {**read_fragment(key), **QUICK.get(key, {})}
    found = method_differences(saved(fragment, tmp_path / 'a.pth'), built({**fragment, **changes}))
    assert any(text.startswith(f'optim_wrapper.{said}') for text in found), found


STGU = dict(type='mtl_plugins.SelectiveTaskGroupOptimWrapper')
F_MTL = dict(type='mtl_plugins.SharpnessAwareOptimWrapper')
NASH = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='NashMTL'))


def gd(**weighting):
    return dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=weighting)


def mogm(**options):
    return dict(NASH, aggregator=dict(type='CRMOGM', **options))


LEFT_OUT = [
    # What stands for None, or for nothing; another value.
    (STGU, dict(affinity=dict(type='ProximalAffinity')), dict(affinity=dict(type='ReleasedAffinity'))),
    (STGU, dict(grouper=dict(type='AffinityPropagation')), dict(grouper=dict(type='AffinityPropagation', damping=0.6))),
    (STGU, dict(weighting=dict(type='EqualWeighting')), dict(weighting=dict(type='RLW'))),
    (F_MTL, dict(aggregator=dict(type='Sum'), rescale='sum'), dict(aggregator=dict(type='PCGrad'))),
    (F_MTL, dict(row_dtype='fp32'), dict(row_dtype='bf16')),
    (NASH, dict(heads='weighted', row_dtype='fp32'), dict(heads='sum')),
    (
        gd(type='DTP', kpi='loss'),
        gd(type='DTP', kpi='loss', normalise=True),
        gd(type='DTP', kpi='loss', normalise=False),
    ),
    (gd(type='STCH'), gd(type='STCH', mu=1.0), gd(type='STCH', mu=0.1)),
    (mogm(), mogm(aggregator=dict(type='MGDA')), mogm(aggregator=dict(type='UPGrad'))),
    (dict(type='mtl_plugins.ReleasedTaskGroupOptimWrapper'), dict(warmup_iters=101), dict(warmup_iters=5)),
    (dict(type='mtl_plugins.SonGokuOptimWrapper'), dict(groups_per_batch=1), dict(groups_per_batch=2)),
]


@pytest.mark.parametrize(('short', 'spelt_out', 'other'), LEFT_OUT)
def test_a_default_that_is_spelt_out_is_no_change(short, spelt_out, other):
    """Nor one that is left out, nor where a checkpoint of an earlier version says None."""
    model = make_model()
    wrappers = [build({**short, **options}, model) for options in ({}, spelt_out, other)]
    records = [wrapper_settings(wrapper) for wrapper in wrappers]
    parts = {name: None for name in ('affinity', 'aggregator', 'grouper') if name in spelt_out}
    if short in (STGU, F_MTL):
        names = records[0]['method'].items()
        none = {**parts, **{name: value for name, value in names if name.partition('.')[0] not in parts}}
        records.append(dict(method=none))
    if short is NASH:
        records.append(dict(method=dict(records[0]['method'], heads=None)))
    for record in (records[0], records[1], *records[3:]):
        assert method_differences(record, wrappers[0]) == method_differences(record, wrappers[1]) == []
        assert method_differences(record, wrappers[2]) != []
    for wrapper in wrappers[:2]:
        assert method_differences(records[2], wrapper) != []
    assert method_differences(records[2], wrappers[2]) == []


def test_strategies_of_a_schedule_are_compared_one_by_one():
    model = make_model()
    schedule = lambda **options: dict(  # noqa: E731
        type='mtl_plugins.SwitchOptimWrapper',
        strategies=[dict(type='mtl_plugins.MultiTaskOptimWrapper'), {**STGU, **options}],
        at=2,
    )
    before = wrapper_settings(build(schedule(), model))
    same = build(schedule(affinity=dict(type='ProximalAffinity')), model)
    other = build(schedule(affinity=dict(type='ProximalAffinity', decay=0.5)), model)
    assert method_differences(before, same) == []
    (words,) = method_differences(before, other)
    assert words == 'optim_wrapper.strategy 2.affinity.decay: 0.001 in the checkpoint, 0.5 now'
