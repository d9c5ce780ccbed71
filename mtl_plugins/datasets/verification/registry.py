"""Names of the datasets that can be verified; their modules are imported when they are asked for."""

from __future__ import annotations

import difflib
from importlib import import_module

from mtl_plugins.errors import UserImportError, UserKeyError, UserTypeError

from .base import LayoutCheck

_LAYOUT_CHECKS = {
    'nyud': 'mtl_plugins.datasets.nyud.check:NYUDv2Check',
    'pascal_context': 'mtl_plugins.datasets.pascal_context.check:PascalContextCheck',
    'taskonomy': 'mtl_plugins.datasets.taskonomy.check:TaskonomyCheck',
}


def layout_check_names() -> tuple[str, ...]:
    """The names :func:`get_layout_check` knows."""
    return tuple(_LAYOUT_CHECKS)


def get_layout_check(name: str) -> type[LayoutCheck]:
    """Import the layout check of a dataset.

    Args:
        name: One of :func:`layout_check_names`, or ``'package.module:Class'`` of a check of your own.

    Raises:
        KeyError: If there is none of this name; the message lists the near matches.
        ImportError: If the module of a check of your own cannot be imported, or lacks the class.
        TypeError: If the class is no :class:`.base.LayoutCheck`.
    """
    location = _LAYOUT_CHECKS.get(name, name)
    module, colon, attribute = location.partition(':')
    if not (module and colon and attribute):
        near = difflib.get_close_matches(name.lower(), _LAYOUT_CHECKS, n=2, cutoff=0.4)
        hint = f'did you mean {" or ".join(near)}?' if near else f'known: {", ".join(_LAYOUT_CHECKS)}'
        raise UserKeyError(f"no dataset '{name}' can be verified: {hint} (a check of your own: package.module:Class)")
    found = getattr(import_module(module), attribute, None)
    if found is None:
        raise UserImportError(f"{location}: module '{module}' has no '{attribute}'")
    if not (isinstance(found, type) and issubclass(found, LayoutCheck)):
        raise UserTypeError(f'{location} must be a subclass of mtl_plugins.datasets.verification.LayoutCheck')
    return found
