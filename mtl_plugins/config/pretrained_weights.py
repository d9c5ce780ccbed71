"""Weights that a model is to fetch from a network: without one, the error comes at once and names the setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config

from mtl_plugins.errors import UserError, UserRuntimeError, message_of
from mtl_plugins.models.backbones.hub import NO_ANSWER, hub_answers

_SCHEMES = ('http://', 'https://', 'open-mmlab://', 'openmmlab://', 'torchvision://', 'modelzoo://', 'mmcls://')
# Names of errors, or parts of messages, of clients that found no network.
_SIGNS = (
    'LocalEntryNotFound',
    'OfflineMode',
    'URLError',
    'ConnectError',
    'ConnectionError',
    'Timeout',
    'urlopen error',
)


@contextmanager
def fetching(cfg: Config) -> Iterator[None]:
    """Inside, the model of ``cfg`` is built and initialized.

    Raises:
        UserRuntimeError: If weights could not be fetched; it names the entries of the config that ask for them.
    """
    places = dict(_places(cfg.get('model'), 'model'))
    hub = any(value is True for value in places.values())
    reachable = not hub or hub_answers()
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = f'{type(error).__name__}: {message_of(error)}'
        if not places or not any(sign in text for sign in _SIGNS):
            raise
        entries = ', '.join(f'{place}={value!r}' for place, value in places.items())
        place, value = next(iter(places.items()))
        off = 'False' if value is True else 'None'
        raise UserRuntimeError(
            f'pretrained weights could not be fetched ({entries}): {text if reachable else NO_ANSWER}. Begin with '
            f'random weights (--cfg-options {place}={off}), or with a local file: '
            + ('checkpoint_path of the backbone' if value is True else f'--cfg-options {place}=FILE')
        ) from error


def _places(entry: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Where a config asks for weights from elsewhere: ``(place, value)``."""
    if isinstance(entry, Mapping):
        kind = str(entry.get('type')).rpartition('.')[2]
        if entry.get('pretrained', kind == 'TIMMBackbone') is True:
            yield f'{place}.pretrained', True
        for key, value in entry.items():
            if key in ('pretrained', 'checkpoint') and isinstance(value, str) and value.startswith(_SCHEMES):
                yield f'{place}.{key}', value
            else:
                yield from _places(value, f'{place}.{key}')
    elif isinstance(entry, list | tuple):
        for number, value in enumerate(entry):
            yield from _places(value, f'{place}.{number}')
