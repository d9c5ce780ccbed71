import io
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mtl_plugins.runtime.checkpoints import NotPlainError, from_plain, to_plain

from .safety import strict_load


class TestPlainState:
    def _round_trip(self, value):
        buffer = io.BytesIO()
        torch.save(to_plain(value), buffer)
        buffer.seek(0)
        return from_plain(strict_load(buffer))

    @pytest.mark.parametrize(
        'array',
        [
            np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::2],
            np.array(2.5),
            np.zeros((0, 4), dtype=np.int16),
            np.array([1, 2], dtype='>i4'),
            np.array(['ab', 'c']),
            np.array([True, False]),
            np.array(['2024-01-01'], dtype='datetime64[D]'),
            np.array([(1, 2.0)], dtype=[('a', 'i4'), ('b', 'f8')]),
        ],
        ids=lambda array: str(array.dtype),
    )
    def test_arrays(self, array):
        back = self._round_trip(dict(x=array))['x']
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert np.array_equal(back, array)
        back[...] = back  # writable

    def test_array_of_objects(self):
        array = np.empty(2, dtype=object)
        array[0], array[1] = [1, 2], [np.float32(3), 'x']
        back = self._round_trip(array)
        assert back.dtype == object
        assert back.tolist() == [[1, 2], [3, 'x']]

    @pytest.mark.parametrize('value', [np.float64(0.1), np.float32(0.1), np.int64(-3), np.bool_(True), np.str_('é')])
    def test_scalars(self, value):
        back = self._round_trip([value])[0]
        assert type(back) is type(value)
        assert back == value

    def test_history_goes_on_as_before(self):
        history = HistoryBuffer([1, 2], [1, 1], max_length=3)
        history.update(0.5, 2)
        back = self._round_trip(dict(h=history))['h']
        for buffer in (history, back):
            buffer.update(9.0, 1)
        assert back.max_length == 3
        for new, old in zip(back.data, history.data):
            assert new.dtype == old.dtype
            assert np.array_equal(new, old)
        assert back.mean(2) == history.mean(2)
        assert back.statistics('max') == history.statistics('max')

    def test_plain_data_is_not_copied_or_changed(self):
        state = nn_state = torch.nn.Linear(2, 2).state_dict()
        value = dict(state=state, numbers=[1, 2.0, (None, True, 'x')], names={'a'}, size=torch.Size([1]))
        assert to_plain(value) is value
        assert from_plain(value) is value
        assert value['state']._metadata is nn_state._metadata

    def test_other_containers(self):
        from collections import defaultdict, namedtuple
        from enum import IntEnum

        pair = namedtuple('pair', 'a b')
        level = IntEnum('level', 'LOW')
        value = dict(a=pair(1, np.int8(2)), b=defaultdict(list, x=[1]), c=Path('p'), d=frozenset({1}), e=level.LOW)
        assert self._round_trip(value) == dict(a=(1, 2), b=dict(x=[1]), c='p', d={1}, e=1)

    def test_objects_are_named(self):
        with pytest.raises(NotPlainError, match=r"\['a'\]\[1\] is a .*Random"):
            to_plain(dict(a=[1, random.Random()]))
