"""Weights that a model is to fetch from a network: without one, the error comes at once and names the setting."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config

from mtl_plugins.errors import UserError, UserRuntimeError, message_of
from mtl_plugins.models.backbones.hub import NO_ANSWER, hub_answers

from .hints import NO_NETWORK
from .places import kind_of, walk

_SCHEMES = ('http://', 'https://', 'open-mmlab://', 'openmmlab://', 'torchvision://', 'modelzoo://', 'mmcls://')


@contextmanager
def fetching(cfg: Config) -> Iterator[None]:
    """Inside, the model of ``cfg`` is built and initialized.

    Raises:
        UserRuntimeError: If weights could not be fetched; it names the entries of the config that ask for them.
    """
    places = dict(_places(cfg.get('model')))
    hub = any(value is True for value in places.values())
    reachable = not hub or hub_answers()
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = f'{type(error).__name__}: {message_of(error)}'
        if not places or not any(sign in text for sign in (*NO_NETWORK, 'Timeout')):
            raise
        entries = ', '.join(f'{place}={value!r}' for place, value in places.items())
        place, value = next(iter(places.items()))
        off = 'False' if value is True else 'None'
        raise UserRuntimeError(
            f'pretrained weights could not be fetched ({entries}): {text if reachable else NO_ANSWER}. Begin with '
            f'random weights (--cfg-options {place}={off}), or with a local file: '
            + ('checkpoint_path of the backbone' if value is True else f'--cfg-options {place}=FILE')
        ) from error


def _places(model: Any) -> Iterator[tuple[str, Any]]:
    """Where the config of a model asks for weights from elsewhere: ``(place, value)``."""
    for place, entry in walk(model, 'model'):
        if isinstance(entry, dict) and entry.get('pretrained', kind_of(entry) == 'TIMMBackbone') is True:
            yield f'{place}.pretrained', True
        if isinstance(entry, str) and entry.startswith(_SCHEMES) and place.endswith(('.pretrained', '.checkpoint')):
            yield place, entry
