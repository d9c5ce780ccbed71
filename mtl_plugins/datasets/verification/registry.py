"""Names of the datasets that can be verified; their modules are imported when they are asked for."""

from __future__ import annotations

import difflib
from importlib import import_module

from .base import LayoutCheck

_LAYOUT_CHECKS = {
    'nyud': 'mtl_plugins.datasets.nyud.check:NYUDv2Check',
    'pascal_context': 'mtl_plugins.datasets.pascal_context.check:PascalContextCheck',
    'taskonomy': 'mtl_plugins.datasets.taskonomy.check:TaskonomyCheck',
}


def layout_check_names() -> tuple[str, ...]:
    """The names :func:`get_layout_check` knows."""
    return tuple(_LAYOUT_CHECKS)


def register_layout_check(name: str, location: str) -> None:
    """Make a dataset of your own verifiable.

    Args:
        name: Name on the command line.
        location: ``'package.module:Class'`` of a :class:`.base.LayoutCheck`.

    Raises:
        ValueError: If ``location`` has another form.
        KeyError: If the name is taken by another location.
    """
    if location.count(':') != 1:
        raise ValueError(f"register_layout_check: location must be 'package.module:Class', but got {location!r}")
    if _LAYOUT_CHECKS.get(name, location) != location:
        raise KeyError(f"'{name}' is already the layout check {_LAYOUT_CHECKS[name]}; choose another name")
    _LAYOUT_CHECKS[name] = location


def get_layout_check(name: str) -> type[LayoutCheck]:
    """Import the layout check of a dataset.

    Raises:
        KeyError: If there is none of this name; the message lists the near matches.
    """
    if name not in _LAYOUT_CHECKS:
        near = difflib.get_close_matches(name.lower(), _LAYOUT_CHECKS, n=2, cutoff=0.4)
        hint = f'did you mean {" or ".join(near)}?' if near else f'known: {", ".join(_LAYOUT_CHECKS)}'
        raise KeyError(f"no dataset '{name}' can be verified: {hint}")
    module, _, attribute = _LAYOUT_CHECKS[name].partition(':')
    return getattr(import_module(module), attribute)
