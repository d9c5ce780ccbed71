"""Modules that have a new place. Their old names go on to work, with one line that says so."""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_STEP = (
    'batch_norm',
    'capture',
    'closure',
    'guards',
    'losses',
    'noise',
    'nonfinite',
    'parameters',
    'precision',
    'reduction',
)
_RUNTIME_HOOKS = ('due_validation', 'environment', 'load_report', 'metrics_file', 'outputs', 'preemption', 'progress')
MOVED = {
    'apis.arguments': 'config.arguments',
    'apis.configs': 'config.loading',
    'apis.inference': 'inference',
    'apis.measuring': 'experiments.measuring',
    'engine.checkpoints': 'runtime.checkpoints',
    'engine.step_batch': 'engine.step.batch',
    'engine.work_folder': 'runtime.work_folder',
    'models.losses.cosine': 'models.losses.normals',
    'methods.catalogue': 'engine.catalogue',
    'methods.keys': 'engine.method_keys',
    'methods.method_row': 'engine.catalogue',
    **{f'engine.{name}': f'engine.step.{name}' for name in _STEP},
    **{
        f'engine.hooks.{name}': f'runtime.hooks.{name}'
        for name in (*_RUNTIME_HOOKS, 'rank_check', 'rng_state', 'safe_checkpoint', 'target_check', 'plain_state')
    },
}
"""Old place -> new place, both in ``mtl_plugins``; what is below moves along."""


def say_moved(old: str, new: str) -> None:
    """Say once per place where a name is used that it has moved."""
    warnings.warn(f'mtl_plugins.{old} has moved: use mtl_plugins.{new}', FutureWarning, stacklevel=3)


def names_from(old: str, *places: str) -> Any:
    """A ``__getattr__`` for the package ``old``, whose public names are now those of ``places``."""

    def __getattr__(name: str) -> Any:
        for place in places:
            module = import_module(f'mtl_plugins.{place}')
            if name in module.__all__:
                say_moved(f'{old}.{name}', f'{place}.{name}')
                return getattr(module, name)
        raise AttributeError(f'module mtl_plugins.{old} has no attribute {name!r}')

    return __getattr__


class _Finder(MetaPathFinder, Loader):
    """Asked first: a module below a package that has moved would else be loaded a second time."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if self._new(name) else None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__spec__.name if module.__spec__ else module.__name__
        new = self._new(name)
        say_moved(name.removeprefix('mtl_plugins.'), new)
        sys.modules[name] = import_module(f'mtl_plugins.{new}')  # the import system goes on with what it finds here

    @staticmethod
    def _new(name: str) -> str:
        package, _, place = name.partition('.')
        for old, new in MOVED.items():
            if package == 'mtl_plugins' and (place == old or place.startswith(f'{old}.')):
                return new + place.removeprefix(old)
        return ''


def let_old_names_work() -> None:
    """Find moved modules under their old names, from here on."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
