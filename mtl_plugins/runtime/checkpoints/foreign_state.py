"""Reads what MMEngine pickles beside the weights as data: history buffers, NumPy arrays and scalars, config dicts.

A checkpoint of MMEngine's own hook names a handful of functions and classes besides tensors. ``torch.load`` takes the
table :data:`STAND_INS` for them: under each of those names it finds an inert record instead, so that nothing which the
file names is imported, called or looked up. :func:`revive` then makes ordinary objects out of the records. NumPy's own
functions are not used for it either, since the state of a ``dtype`` is trusted by NumPy and can be forged.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pickle import UnpicklingError
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

GETATTR = 'builtins.getattr'
_PLAIN_DTYPE = re.compile(r'[biufcSU]\d+')
_LEFT_OUT = object()


class _Record:
    """What a file said about an object; nothing acts on it before :func:`revive`."""

    args: tuple = ()
    state: Any = None

    def __new__(cls, *args: Any) -> _Record:
        self = super().__new__(cls)
        self.args = args
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def revive(self) -> Any:
        raise UnpicklingError(f'an incomplete {type(self).__name__.strip("_")}')


class _DType(_Record):
    def revive(self) -> np.dtype:
        code = self.args[0] if self.args else None
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else '='
        if code in ('O', 'O8'):
            return np.dtype(object)
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code) or order not in ('<', '>', '|', '='):
            raise UnpicklingError(f'an array of the type {code!r}')
        return np.dtype(code if order == '|' else order + code)


class _Array(_Record):
    def revive(self) -> np.ndarray:
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise UnpicklingError('an array without content')
        _, shape, dtype, by_columns, content = self.state
        values = _values(dtype, content)
        return values.reshape(shape, order='F' if by_columns else 'C').copy()


class _Scalar(_Record):
    def revive(self) -> Any:
        return _values(*self.args[:2])[0]


class _History(_Record):
    def revive(self) -> HistoryBuffer:
        state = dict(revive(self.state))
        history = HistoryBuffer(max_length=int(state['max_length']))
        history._log_history = np.asarray(state['_log_history'])
        history._count_history = np.asarray(state['_count_history'])
        return history


class _OneCycle(_Record):
    """The class alone, which is named as the owner of a function."""


class _Function(_Record):
    """A function of a class, which the new object of that class has anyway: it is left out."""

    def revive(self) -> Any:
        return _LEFT_OUT


def _array(*_: Any) -> _Array:
    return _Array()


def _attribute(owner: Any, name: str) -> _Function:
    if owner not in (_History, _OneCycle):
        raise UnpicklingError(f'the attribute {name!r} of {owner!r} is looked up')
    return _Function()


def _mapping(values: Mapping | tuple = ()) -> dict:
    return dict(values)


def _no_bytes() -> bytes:
    return b''


STAND_INS: dict[str, Callable] = {
    GETATTR: _attribute,
    'builtins.bytes': _no_bytes,  # how pickle writes empty ones
    'numpy.ndarray': _Array,
    'numpy.dtype': _DType,
    **{
        f'numpy.{core}.multiarray.{name}': stand_in
        for core in ('core', '_core')
        for name, stand_in in (('_reconstruct', _array), ('scalar', _Scalar))
    },
    'mmengine.logging.history_buffer.HistoryBuffer': _History,
    'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler': _OneCycle,
    **{f'{module}.ConfigDict': _mapping for module in ('mmengine.config.config', 'mmcv.utils.config')},
}
"""Name in a file -> what is put in its place."""


def revive(value: Any) -> Any:
    """Make ordinary objects out of the records in ``value``; containers without any are returned themselves."""
    if isinstance(value, _Record):
        return value.revive()
    kind = type(value)
    if kind in (dict, OrderedDict):
        items = [(revive(key), revive(item)) for key, item in value.items()]
        if all(new is old for (_, new), old in zip(items, value.values())):
            return value
        return kind((key, item) for key, item in items if item is not _LEFT_OUT)
    if kind in (list, tuple):
        items = [revive(item) for item in value]
        return value if all(new is old for new, old in zip(items, value)) else kind(items)
    return value


def without_programs(checkpoint: Any) -> Any:
    """Take ``meta['config']`` out of a checkpoint: on resume MMEngine executes that text as a Python config."""
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    if isinstance(meta, dict):
        meta.pop('config', None)
    return checkpoint


def _values(dtype: Any, content: Any) -> np.ndarray:
    """The values of an array in a row, from the bytes of numbers and texts or from a list of objects."""
    kind = dtype.revive() if isinstance(dtype, _DType) else None
    if kind is None:
        raise UnpicklingError('an array without a type')
    if kind.hasobject:
        if not isinstance(content, list):
            raise UnpicklingError('an array of objects without a list of them')
        array = np.empty(len(content), dtype=object)
        for index, item in enumerate(content):  # not array[:] =, which would unpack nested lists
            array[index] = revive(item)
        return array
    if isinstance(content, str):  # as written by Python 2
        content = content.encode('latin1')
    if not isinstance(content, bytes):
        raise UnpicklingError('an array without bytes')
    return np.frombuffer(content, dtype=kind)
