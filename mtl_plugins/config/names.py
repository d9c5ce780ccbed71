"""Names of entries that nobody reads: a misspelt one must not pass in silence."""

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.config import Config

from mtl_plugins.errors import UserKeyError
from mtl_plugins.methods.naming import near_names

from .places import walk
from .readers import arguments_of, readers_of

OF_CONFIGS = {'type', '_delete_', '_scope_'}
_NEAR = 0.75
"""How alike two names are (``difflib``) for one to be taken as a misspelling of the other."""
_VERY_NEAR = 0.85
"""The same between an entry of a run and a variable of the config, which may have any name."""
_OF_RUNNER = {'compile', 'runner_type', 'tta_model', 'tta_pipeline'}
_IGNORE_THE_REST = ('env_cfg', 'env_cfg.dist_cfg', 'auto_scale_lr')
"""Places whose readers take what they know and say nothing about the rest."""


def check_names(cfg: Config) -> None:
    """Refuse misspelt entries before anything is built, and warn of those that nothing may come of.

    An entry is refused if its reader, as far as that is known, has no such argument but one like it. Where the reader
    hands unknown arguments on (``**kwargs``), whoever gets them may take it, so that it is a warning; so it is for an
    entry of the whole config that is like one that a run reads: it may be a variable.

    Raises:
        UserKeyError: See above.
    """
    content = cfg._cfg_dict
    known = readable('', {})
    for name in content:
        near = [] if name in known else meant_by(str(name), known - _OF_RUNNER, _VERY_NEAR)
        if near:
            say(f'no part of a run reads the entry {name} of the config; did you mean {" or ".join(near)}?')
    for place, node in walk({name: content[name] for name in sorted(known & {*content})}):
        if place and isinstance(node, dict):
            _check(place, node)


def _check(place: str, node: Mapping[str, Any]) -> None:
    arguments = [arguments_of(reader) for reader in readers_of(place, node)]
    known = {name for each in arguments for name in each} - {'self', 'args', 'kwargs', 'cfg'}
    handed_on = any(one.kind is one.VAR_KEYWORD for each in arguments for one in each.values())
    for name in node:
        if not arguments or name in known or name in OF_CONFIGS:
            continue
        near = meant_by(str(name), known)
        if near and not handed_on:
            raise UserKeyError(f'{place}.{name}: there is no such setting; did you mean {" or ".join(near)}?')
        if near:
            say(f'{place}.{name} may be without effect; did you mean {" or ".join(near)}?')
        elif place in _IGNORE_THE_REST:
            say(f'{place}.{name} is without effect: nobody reads it; known: {", ".join(sorted(known))}')


def meant_by(name: str, known: Iterable[str], cutoff: float = _NEAR) -> list[str]:
    """The known names that ``name`` may be a misspelling of; none for most names."""
    swapped = [other for other in sorted(known) if sorted(other) == sorted(name)]
    return swapped or near_names(name, sorted(known), 2, cutoff)


def readable(place: str, node: Mapping[str, Any]) -> set[str]:
    """Names of arguments that whatever is built from the dict ``node`` takes, as far as that is known."""
    names = {name for reader in readers_of(place, node) for name in arguments_of(reader)}
    return (names | (_OF_RUNNER if not place else set())) - {'self', 'args', 'kwargs', 'cfg'}


def say(text: str) -> None:
    """Tell it beside the output, once: neither the processes nor the logger of the run are there yet."""
    if os.environ.get('RANK', '0') == '0':
        print(text, file=sys.stderr)
