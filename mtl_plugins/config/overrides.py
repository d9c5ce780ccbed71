"""Entries of a config that the command line changes: each must be one that the config, or who reads it, knows."""

from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.config import Config

from mtl_plugins.errors import UserError, UserKeyError

from .cfg_options import OPTION, CommaList
from .files import settle_entries
from .names import OF_CONFIGS, meant_by, readable, say
from .readers import arguments_of, readers_of

_READ_WITH_FILE = ('_base_', '_delete_', 'custom_imports', 'env_variables')
"""Entries of a config file that are used up when it has been read."""


def override(cfg: Config, options: Mapping[str, Any]) -> None:
    """Change entries of a config, and list those that are new.

    Args:
        cfg: Changed in place.
        options: ``{'a.b.0.c': value}``, as :class:`~mtl_plugins.config.cfg_options.ConfigArgumentParser` gives it. A
            dict is merged into a dict and replaces all else.

    Raises:
        UserError: If a name leads into something that has no entries, or is new and like one that is known there.
    """
    new, idle = [], []
    for name, value in options.items():
        if name.partition('.')[0] in _READ_WITH_FILE:
            raise UserError(f'{OPTION} {name}: this only has an effect while a config file is read; write it there')
        parent, known = _find(cfg, name)
        *_, last = name.split('.')
        present = _get(parent, last)
        if not known:
            new.append(name)
        elif name.partition('.')[0] not in readable('', {}) and value != present:
            idle.append(name)
        new += _new_inside(cfg, name, present, value)
        if isinstance(value, CommaList):
            value = value.text if isinstance(present, str) or _takes_text(parent, name) else list(value)
        if isinstance(present, dict) or (isinstance(parent, dict) and last in parent):
            value = _replacing(value, present)
        _put(cfg, name, value)
    settle_entries(cfg._cfg_dict)
    if idle:
        say(
            f'{OPTION} changes {", ".join(idle)}, which no part of a run reads: variables of a config file have done '
            'their work when it has been read. Change the entries that were made of them'
        )
    if new:
        say(f'{OPTION} adds entries that the config did not have: {", ".join(new)}')


def _replacing(value: Any, present: Any) -> Any:
    """A value with the order, which MMEngine needs, to replace what its dicts cannot be merged into, at any depth."""
    if not isinstance(value, dict) or value.get('_delete_'):
        return value
    if not isinstance(present, dict):
        return {**value, '_delete_': True}
    return {key: _replacing(inner, present[key]) if key in present else inner for key, inner in value.items()}


def _put(cfg: Config, name: str, value: Any) -> None:
    """Set an entry; a dict is merged into a dict. Tuples on the way, which MMEngine cannot change, stay tuples."""
    parts = name.split('.')
    ways = ['.'.join(parts[:depth]) for depth in range(1, len(parts))]
    tuples = [way for way in ways if isinstance(_at(cfg, way), tuple)]
    for way in tuples:
        _put(cfg, way, [*_at(cfg, way)])
    parent, present = _at(cfg, name.rpartition('.')[0]), _at(cfg, name)
    merged = isinstance(value, dict) and isinstance(present, dict) and not value.get('_delete_')
    if isinstance(parent, list) and not merged:
        parent[int(parts[-1])] = value
    else:
        cfg.merge_from_dict({name: value})
    for way in reversed(tuples):
        _put(cfg, way, (*_at(cfg, way),))


def _at(cfg: Config, name: str) -> Any:
    node: Any = cfg._cfg_dict
    for part in name.split('.') if name else ():
        node = _get(node, part)
    return node


def _new_inside(cfg: Config, name: str, present: Any, value: Any) -> list[str]:
    """The unknown entries of a dict that is merged into another; what takes its place may hold anything."""
    both = isinstance(value, dict) and isinstance(present, dict)
    if not both or value.get('_delete_') or value.get('type', present.get('type')) != present.get('type'):
        return []
    new = []
    for key, inner in value.items():
        if not isinstance(key, str) or '.' in key or key in OF_CONFIGS:
            continue
        node, known = _find(cfg, f'{name}.{key}')
        new += _new_inside(cfg, f'{name}.{key}', _get(node, key), inner) if known else [f'{name}.{key}']
    return new


def _find(cfg: Config, name: str) -> tuple[Any, bool]:
    """The dict or list that holds the last part of a dotted name, and whether that part is known there."""
    node: Any = cfg._cfg_dict
    parts = name.split('.')
    for depth, part in enumerate(parts):
        place = '.'.join(parts[:depth])
        if isinstance(node, list | tuple):
            if not part.isdecimal() or int(part) >= len(node):
                raise UserError(
                    f'{OPTION} {name}: {place} is a list of {len(node)}; its entries are 0 to {len(node) - 1}'
                )
        elif not isinstance(node, dict):
            raise UserError(f'{OPTION} {name}: {place} is {node!r}, which has no entries; set it to a dict as a whole')
        elif part not in node:
            known = readable(place, node)
            if part not in known:
                _refuse_misspelt(name, part, place, {*map(str, node), *known})
                return {}, False
            if depth == len(parts) - 1:
                return {}, True
            node = {part: {}}
        if depth == len(parts) - 1:
            return node, True
        node = _get(node, part)
    raise AssertionError(name)


def _takes_text(parent: Any, name: str) -> bool:
    """Whether an entry that the config does not set is, for its reader, one text."""
    place, _, last = name.rpartition('.')
    kinds = [str(kind) for reader in readers_of(place, parent) for kind in [_annotation(reader, last)]]
    return bool(kinds) and all('str' in kind and 'Sequence' not in kind and 'List' not in kind for kind in kinds)


def _annotation(reader: Any, name: str) -> Any:
    parameter = arguments_of(reader).get(name)
    return parameter.annotation if parameter else ''


def _get(node: Any, part: str) -> Any:
    if isinstance(node, list | tuple):
        return node[int(part)]
    return node.get(part) if isinstance(node, dict) else None


def _refuse_misspelt(name: str, part: str, place: str, known: Iterable[str]) -> None:
    near = meant_by(part, known)
    if near:
        where = place or 'the config'
        meant = ' or '.join(f"'{place + '.' if place else ''}{match}'" for match in near)
        raise UserKeyError(f"{OPTION} {name}: {where} has no entry '{part}'; did you mean {meant}?")
