"""YAML files as the data that they look like: none of their tags imports, builds or calls anything."""

import contextlib
from collections.abc import Iterator
from typing import Any

import yaml
from mmengine.fileio.handlers import registry_utils
from mmengine.fileio.handlers.yaml_handler import YamlHandler

from mtl_plugins.errors import UserError

_SUFFIXES = ('yaml', 'yml')
_PYTHON = 'tag:yaml.org,2002:python/'


class _PlainLoader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):
    """The safe loader, with the tags under which Python's own plain types are written (``!!python/tuple``).

    Without libyaml's parser, the fifty files in which MMEngine looks for a base of MMSegmentation take seconds.
    """


def _sequence(kind: type) -> Any:
    return lambda loader, node: kind(loader.construct_sequence(node, deep=True))


def _refuse(loader: yaml.Loader, suffix: str, node: yaml.Node) -> Any:
    raise UserError(
        f'line {node.start_mark.line + 1} has the tag !!python/{suffix}, which would run code; a YAML file is read as '
        'data. Write a Python config where code is wanted'
    )


_PlainLoader.add_constructor(f'{_PYTHON}tuple', _sequence(tuple))
_PlainLoader.add_constructor(f'{_PYTHON}list', _sequence(list))
_PlainLoader.add_constructor(f'{_PYTHON}dict', yaml.SafeLoader.construct_yaml_map)
for _name in ('str', 'int', 'float', 'bool'):
    _PlainLoader.add_constructor(f'{_PYTHON}{_name}', getattr(yaml.SafeLoader, f'construct_yaml_{_name}'))
_PlainLoader.add_constructor(f'{_PYTHON}none', yaml.SafeLoader.construct_yaml_null)
_PlainLoader.add_multi_constructor(_PYTHON, _refuse)


class PlainYamlHandler(YamlHandler):
    """MMEngine's handler with a loader that reads data only."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        """Load ``file``, whatever loader the caller wanted."""
        return yaml.load(file, Loader=_PlainLoader)


@contextlib.contextmanager
def plain_yaml() -> Iterator[None]:
    """Inside, MMEngine reads YAML files, also as the ``_base_`` of others, as data; afterwards all is as before."""
    before = {suffix: registry_utils.file_handlers[suffix] for suffix in _SUFFIXES}
    registry_utils.file_handlers.update(dict.fromkeys(_SUFFIXES, PlainYamlHandler()))
    try:
        yield
    finally:
        registry_utils.file_handlers.update(before)
