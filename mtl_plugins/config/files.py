"""Config files: where they are, also when named ``package::folder/name.py``, and one form for all kinds of them."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config.config import DELETE_KEY

import mtl_plugins
from mtl_plugins.errors import UserFileNotFoundError, UserImportError
from mtl_plugins.methods.naming import near_names

from .places import walk


def configs_root() -> Path:
    """The folder of the shipped configs: in a checkout, beside the package; in a wheel, inside it.

    Raises:
        FileNotFoundError: If neither is there.
    """
    package = Path(mtl_plugins.__file__).parent
    for candidate in (package.parent / 'configs', package / '.mim' / 'configs'):
        if (candidate / '_base_' / 'methods').is_dir():
            return candidate
    raise UserFileNotFoundError(f'the configs of mtl_plugins were not found beside or inside {package}; reinstall it')


def names_package(config: str | os.PathLike) -> bool:
    """Whether a config is named by its package, ``mtl_plugins::rooms/name.py``, instead of by a path."""
    return '::' in str(config)


def find_config(config: str | os.PathLike) -> Path:
    """The file of a config: a path, or ``package::folder/name.py`` for a config that an installed package ships.

    Raises:
        FileNotFoundError: If there is no such file; the message says where the shipped ones are, or lists near matches.
        ModuleNotFoundError: If the package is not installed.
    """
    if not names_package(config):
        if Path(config).exists() and not Path(config).is_file():
            kind = 'a folder' if Path(config).is_dir() else 'no regular file'
            raise UserFileNotFoundError(f'config {config} is {kind}; expected a file .py, .json or .yaml')
        if not Path(config).is_file():
            root = configs_root()
            shown = root.relative_to(Path.cwd()) if root.is_relative_to(Path.cwd()) else root
            hint = _near(Path(config).name, root, lambda match: str(shown / match)) or (
                f'the shipped ones are in {shown} and can be named without that folder, for example '
                'mtl_plugins::rooms/stgu_vit-micro_8b-2k_rooms-96.py'
            )
            raise UserFileNotFoundError(f'config {config} not found: {hint}')
        return Path(config)
    package, _, name = str(config).partition('::')
    root = _configs_of(package)
    if not (root / name).is_file():
        hint = _near(name, root, lambda match: f'{package}::{match}') or f'look in {root}'
        raise UserFileNotFoundError(f'config {config} not found: {hint}')
    return root / name


def _near(name: str, root: Path, show: Callable[[Path], str]) -> str:
    """A question that names shipped configs with a similar name, or an empty string."""
    paths = (path.relative_to(root) for path in sorted(root.rglob('*.py')))
    shipped = {path.as_posix(): path for path in paths if path.parts[0] != '_base_'}
    if '/' not in name:
        shipped = {path.name: path for path in shipped.values()}
    near = near_names(name, shipped, cutoff=0.6)
    return f'did you mean {" or ".join(show(shipped[match]) for match in near)}?' if near else ''


def _configs_of(package: str) -> Path:
    if package == 'mtl_plugins':
        return configs_root()
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        raise UserImportError(f'package {package!r} is not installed; name a config as mtl_plugins::FOLDER/NAME.py')
    return Path(spec.origin).parent / '.mim' / 'configs'


def settle_entries(entry: Any) -> None:
    """Give what a config file holds one form, in place.

    Where a pure Python config has the class ``X`` of ours itself as a ``type``, that becomes ``'mtl_plugins.X'``: what
    changes configs (other method, other tasks, other folder of the data) then looks at one kind of ``type``. And
    ``_delete_`` goes that MMEngine leaves where nothing of a base was in the way: a new entry, or one of a list, which
    takes the place of the base's list as a whole.
    """
    for _, node in walk(entry):
        if not isinstance(node, dict):
            continue
        node.pop(DELETE_KEY, None)
        kind = node.get('type')
        if isinstance(kind, type) and kind.__module__.partition('.')[0] == 'mtl_plugins':
            node['type'] = f'mtl_plugins.{kind.__name__}'
