"""What a config says before anything is built from it."""

import logging
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import FUNCTIONS, OPTIMIZERS, Registry

from mtl_plugins.errors import UserError, UserFileNotFoundError
from mtl_plugins.methods.naming import near_names
from mtl_plugins.runtime.checkpoints import safe_torch_load

from .places import entries
from .readers import check_kinds


def check_start(cfg: Config) -> None:
    """Refuse a start from a file that is not there, and an optimizer of which nobody knows.

    Raises:
        FileNotFoundError: See above.
        UserError: See above.
    """
    start = cfg.get('load_from')
    if isinstance(start, str) and '://' not in start and not Path(start).is_file():
        raise UserFileNotFoundError(f'load_from={start}: there is no such file')
    check_kinds(cfg)
    levels = logging.getLevelNamesMapping()
    if cfg.get('log_level', 'INFO') not in (*levels, *levels.values()):
        raise UserError(f'log_level must be one of {", ".join(levels)}, but is {cfg.log_level!r}')
    for name in ('val', 'test'):
        check_loop(cfg, name)
    check_optimizers(cfg)
    for name in ('train', 'val', 'test'):
        _check_names(cfg, f'{name}_dataloader.collate_fn.type', FUNCTIONS, 'function')


def check_optimizers(cfg: Config) -> None:
    """Refuse optimizers that nobody knows, or that have no name.

    Raises:
        UserError: See above.
    """
    for part in ('', '.*'):  # one optimizer per part of the model
        for place, optimizer in entries(cfg._cfg_dict, f'optim_wrapper{part}.optimizer'.split('.')):
            if isinstance(optimizer, dict) and not optimizer.get('type'):
                raise UserError(f"{place} must be a dict with a type, such as dict(type='AdamW', lr=1e-3)")
        _check_names(cfg, f'optim_wrapper{part}.optimizer.type', OPTIMIZERS, 'optimizer')


def keep_task_order(cfg: Config) -> None:
    """Order the tasks as in the checkpoint that a run goes on from.

    MMEngine writes the dicts of a config in alphabetical order into the folder of a run; the order of tasks is that of
    parameters, and of all that a method keeps per task.
    """
    path = cfg.get('load_from')
    if not cfg.get('resume') or not isinstance(path, str) or not Path(path).is_file():
        return
    saved: list[str] = []
    # Whoever loads the file for good says what is wrong with it.
    with suppress(UserError, OSError, LookupError, TypeError):
        content = safe_torch_load(path, 'cpu', mmap=zipfile.is_zipfile(path))
        saved = content['meta']['mtl']['tasks'] or []
    for part, name in ((cfg.get('model'), 'heads'), (cfg.get('optim_wrapper'), 'tasks')):
        entries = (part or {}).get(name)
        if isinstance(entries, Mapping) and set(entries) == set(saved) and list(entries) != list(saved):
            part.pop(name)  # an assignment alone would merge
            part[name] = {task: entries[task] for task in saved}


def check_loop(cfg: Config, name: str) -> None:
    """Refuse a half of a validation or a test.

    Args:
        cfg: The config.
        name: ``'val'`` or ``'test'``.

    Raises:
        UserError: If some of its three parts are there and others are not.
    """
    parts = [f'{name}_{part}' for part in ('dataloader', 'cfg', 'evaluator')]
    absent = [entry for entry in parts if cfg.get(entry) is None]
    if 0 < len(absent) < len(parts):
        given = [entry for entry in parts if entry not in absent]
        raise UserError(
            f'{" and ".join(absent)} must be given beside {" and ".join(given)}, but is None; to do without, set '
            f'{", ".join(parts)} to None'
        )


def _check_names(cfg: Config, pattern: str, registry: Registry, kind: str) -> None:
    """Refuse names that MMEngine looks up without asking whether they are there."""
    for place, name in entries(cfg._cfg_dict, pattern.split('.')):
        with registry.switch_scope_and_registry(None) as local:
            if not isinstance(name, str) or local.get(name) is not None:
                continue
            known = [*local.module_dict, *(local.parent.module_dict if local.parent else ())]
        near = near_names(name, known, 2, 0.6)
        meant = f'; did you mean {" or ".join(map(repr, near))}?' * bool(near)
        raise UserError(f'{place}: there is no {kind} {name!r}{meant}')
