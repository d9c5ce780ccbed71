"""What the folders of methods export: a new file is found, not listed."""

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


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


def on_demand(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], list[str]]:
    """``__getattr__`` and ``__all__`` of a package whose modules are imported when one of their names is asked for.

    Args:
        package: Name of the package.
        names: Module below it -> what the package exports of it, with spaces between.
    """
    module_of = {name: module for module, exported in names.items() for name in exported.split()}

    def __getattr__(name: str) -> Any:
        if name in module_of:
            return getattr(import_module(f'{package}.{module_of[name]}'), name)
        if name in names:
            return import_module(f'{package}.{name}')
        raise AttributeError(f'module {package} has no attribute {name!r}')

    return __getattr__, sorted(module_of)
