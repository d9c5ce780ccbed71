"""Histories that grow in place are those of MMEngine in all that can be seen."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer, MessageHub

from mtl_plugins.config import load_config
from mtl_plugins.runtime.hooks.histories import GrowingHistory, HistoriesHook
from tests.support.tiny import ROOMS

NUMBERS = st.one_of(st.integers(-(2**53), 2**53), st.floats(), st.booleans())


def equal(ours, theirs):
    for mine, other in zip(ours.data, theirs.data):
        assert mine.dtype == other.dtype
        np.testing.assert_array_equal(mine, other)


@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])  # no clock decides
@given(
    st.lists(NUMBERS, max_size=5), st.lists(st.tuples(NUMBERS, st.integers(1, 9)), max_size=200), st.integers(1, 150)
)
def test_equal_to_mmengines(first, more, most):
    theirs = HistoryBuffer(first[-most:], [1] * len(first[-most:]), max_length=most)
    ours = GrowingHistory.of(copy.deepcopy(theirs))
    equal(ours, theirs)
    for value, count in more:
        ours.update(value, count)
        theirs.update(value, count)
    equal(ours, theirs)
    for name in ('min', 'max', 'mean', 'current') if len(theirs.data[0]) else ():
        with np.errstate(all='ignore'):
            assert repr(ours.statistics(name)) == repr(theirs.statistics(name))
    for back in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert type(back) is HistoryBuffer
        equal(back, theirs)


def test_an_update_seldom_copies_what_is_there():
    history = GrowingHistory()
    rooms = set()
    for value in range(10_000):
        history.update(float(value))
        rooms.add(history.data[0].__array_interface__['data'][0])
    assert len(rooms) <= 10
    with pytest.raises(TypeError, match='int or float'):
        history.update('1')


def test_the_hook_takes_over_what_there_is():
    hub = MessageHub.get_instance('histories')
    hub.load_state_dict(dict(log_scalars={'old': HistoryBuffer([1.0, 2.0], [1, 1])}, runtime_info={}, resumed_keys={}))
    hook = HistoriesHook()
    for value in range(3):
        hub.update_scalar('train/loss', float(value))
        hub.update_scalar('old', float(value))
        hook.after_train_iter(SimpleNamespace(message_hub=hub), value)
    assert {name: type(history) for name, history in hub.log_scalars.items()} == dict.fromkeys(
        ['old', 'train/loss'], GrowingHistory
    )
    assert hub.get_scalar('old').data[0].tolist() == [1.0, 2.0, 0.0, 1.0, 2.0]
    assert {type(history) for history in hub.state_dict()['log_scalars'].values()} == {HistoryBuffer}
    assert load_config(ROOMS).default_hooks.histories.type == 'mtl_plugins.HistoriesHook'
