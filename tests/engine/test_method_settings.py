"""A resumed method has the settings that its saved state was made with, whatever they are."""

import copy

import pytest
import torch

from mtl_plugins.errors import UserError
from mtl_plugins.runtime.checkpoints.optimizer_settings import method_differences, settings_in_state

from .all_methods import QUICK, ROWS, build, read_fragment
from .toy import make_model

OTHERS = {'rescale': None, 'heads': None, 'normalise': 'l2', 'level': 'features', 'main': 'b', 'idle_heads': 'step'}


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
