"""Checkpoints of plain data: what ``torch.load(weights_only=True)`` accepts without any allow-listing.

MMEngine pickles its message hub as it is, with ``HistoryBuffer`` objects that refer to bound methods and with NumPy
arrays and scalars. :func:`to_plain` turns these into tensors, numbers, strings, lists, tuples and dicts, and
:func:`from_plain` turns them back, dtypes included.
"""

from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from mtl_plugins.errors import UserError

_TAG = '__mtl_plain__'
_AS_THEY_ARE = (type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device)
_TENSORS = (torch.Tensor, torch.nn.Parameter)


class NotPlainError(UserError):  # the Runner rewrites TypeErrors of hooks, so this is none
    """An object that has no plain form; ``where`` is its place in the checkpoint."""

    def __init__(self, value: Any, where: str) -> None:
        self.where = where
        super().__init__(
            f'checkpoint{where} is a {type(value).__module__}.{type(value).__qualname__}, which only an unsafe load '
            'could bring back. Store tensors, numbers, strings, lists, tuples, sets or dicts instead'
        )


def to_plain(value: Any, where: str = '') -> Any:
    """Return ``value`` with everything that is not plain data replaced by a plain description of it.

    Containers in which nothing had to be replaced are returned themselves, not copied.

    Args:
        value: Anything out of a checkpoint.
        where: Its place, for the error message, such as ``"['meta']"``.

    Returns:
        Any: Plain data, to be read by :func:`from_plain`.

    Raises:
        NotPlainError: If ``value`` holds an object of an unknown type.
    """
    kind = type(value)
    if kind in _AS_THEY_ARE or kind in _TENSORS:
        return value
    if kind in (dict, OrderedDict, Counter):
        items = [(to_plain(key, where), to_plain(item, f'{where}[{key!r}]')) for key, item in value.items()]
        if all(new is old for (_, new), old in zip(items, value.values())) and all(
            new is old for (new, _), old in zip(items, value)
        ):
            return value
        return kind(items) if kind is not Counter else dict(items)
    if kind in (list, tuple):
        items = [to_plain(item, f'{where}[{index}]') for index, item in enumerate(value)]
        return value if all(new is old for new, old in zip(items, value)) else kind(items)
    if kind is set:
        items = {to_plain(item, where) for item in value}
        return value if items == value and all(type(item) in _AS_THEY_ARE for item in value) else items
    return _describe(value, where)


def from_plain(value: Any) -> Any:
    """Undo :func:`to_plain`; does nothing to data without descriptions of it."""
    kind = type(value)
    if kind in (dict, OrderedDict):
        if _TAG in value:
            return _RESTORERS[value[_TAG]](value)
        items = [(key, from_plain(item)) for key, item in value.items()]
        return value if all(new is old for (_, new), old in zip(items, value.values())) else kind(items)
    if kind in (list, tuple):
        items = [from_plain(item) for item in value]
        return value if all(new is old for new, old in zip(items, value)) else kind(items)
    return value


def _describe(value: Any, where: str) -> Any:
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        return {
            _TAG: 'history',
            'log': _describe(np.asarray(log), where),
            'count': _describe(np.asarray(count), where),
            'max_length': int(value.max_length),
        }
    if isinstance(value, np.generic):  # before float and str, whose subclasses some of these are
        return {_TAG: 'scalar', 'array': _describe(np.asarray(value), where)}
    if isinstance(value, np.ndarray):
        return _describe_array(value, where)
    if isinstance(value, torch.Tensor):
        return value.detach().as_subclass(torch.Tensor)
    if isinstance(value, Mapping):
        return {to_plain(key, where): to_plain(item, f'{where}[{key!r}]') for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return to_plain((tuple if isinstance(value, tuple) else list)(value), where)
    if isinstance(value, (set, frozenset)):
        return {to_plain(item, where) for item in value}
    if isinstance(value, PurePath):
        return str(value)
    for base in (int, float, complex, str, bytes):  # subclasses, such as enumerations and sampler positions
        if isinstance(value, base):
            return base(value)
    raise NotPlainError(value, where)


def _describe_array(value: np.ndarray, where: str) -> dict:
    plain = {_TAG: 'array', 'dtype': value.dtype.str, 'shape': tuple(value.shape)}
    if value.dtype.hasobject:
        plain['dtype'] = 'object'
        plain['items'] = [to_plain(item, f'{where}[{index}]') for index, item in enumerate(value.ravel().tolist())]
    else:
        # As bytes: every dtype (text, dates, big-endian, structured) keeps its exact content that way.
        plain['data'] = torch.frombuffer(bytearray(value.tobytes()), dtype=torch.uint8) if value.nbytes else None
    if value.dtype.fields is not None:
        plain['dtype'] = [tuple(field) for field in value.dtype.descr]
    return plain


def _restore_array(plain: dict) -> np.ndarray:
    shape = tuple(plain['shape'])
    if 'items' in plain:
        array = np.empty(len(plain['items']), dtype=object)
        for index, item in enumerate(plain['items']):  # not array[:] =, which would unpack nested lists
            array[index] = from_plain(item)
        return array.reshape(shape)
    dtype = np.dtype(plain['dtype'])
    if plain['data'] is None:
        return np.empty(shape, dtype=dtype)
    # The load may have mapped all tensors to a GPU.
    return np.frombuffer(plain['data'].cpu().numpy().tobytes(), dtype=dtype).reshape(shape).copy()


def _restore_history(plain: dict) -> HistoryBuffer:
    history = HistoryBuffer(max_length=plain['max_length'])
    # Not by the constructor, whose round trip through a list may change the dtype.
    history._log_history = _restore_array(plain['log'])
    history._count_history = _restore_array(plain['count'])
    return history


_RESTORERS = {
    'array': _restore_array,
    'scalar': lambda plain: _restore_array(plain['array'])[()],
    'history': _restore_history,
}
