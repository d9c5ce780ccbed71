"""Places in a config: all that lies below an entry, what a dotted pattern names, and the class that an entry names."""

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def walk(node: Any, place: str = '') -> Iterator[tuple[str, Any]]:
    """An entry and all that lies below it, each with its place as ``--cfg-options`` takes it; what is outside first."""
    yield place, node
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    for key, value in items:
        yield from walk(value, f'{place}.{key}' if place else str(key))


def entries(node: Any, parts: Sequence[str], place: str = '') -> Iterator[tuple[str, Any]]:
    """All that stands at a place of a config: ``(place, value)``; a part ``*`` is every entry, or one alone."""
    if not parts:
        yield place, node
        return
    if isinstance(node, dict) and 'type' in node and parts[0] == '*':
        yield from entries(node, parts[1:], place)
        return
    if isinstance(node, dict):
        keys = list(node) if parts[0] == '*' else [key for key in (parts[0],) if key in node]
    elif isinstance(node, list | tuple):
        keys = list(range(len(node))) if parts[0] == '*' else []
    else:
        return
    for key in keys:
        yield from entries(node[key], parts[1:], f'{place}.{key}' if place else str(key))


def kind_of(entry: Any) -> str:
    """Name of the class that an entry names as its ``type``, as a text or itself, without the scope; empty for none."""
    kind = entry.get('type') if isinstance(entry, dict) else None
    return str(getattr(kind, '__name__', kind or '')).rpartition('.')[2]


def enter_scope(cfg: Config) -> None:
    """Let names be looked up in the default scope of a config, or else in ours."""
    init_default_scope(cfg.get('default_scope') or 'mtl_plugins')
