"""What the folders of methods export: a new file is found, not listed."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module


def classes_in(package: str, path: Iterable[str], base: type) -> dict[str, type]:
    """Return the classes of a package's modules that descend from ``base``, by name.

    Args:
        package: Name of the package.
        path: Its ``__path__``.
        base: What all of its methods are.
    """
    modules = [import_module(f'{package}.{module.name}') for module in pkgutil.iter_modules(path)]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    return {kind.__name__: kind for kind in sorted(found, key=lambda kind: kind.__name__) if issubclass(kind, base)}
