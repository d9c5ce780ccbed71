"""What a config says before anything is built from it."""

from __future__ import annotations

import difflib
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import FUNCTIONS, OPTIMIZERS, Registry
from torch import nn

from mtl_plugins.apis.run_numbers import entries
from mtl_plugins.engine.hooks.environment import collect_environment
from mtl_plugins.errors import UserError, UserFileNotFoundError

from .report import Step

_SHOWN = ('torch', 'torchvision', 'timm', 'numpy', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmsegmentation')
_ORIGINALS = ('mmengine', 'mmcv', 'mmsegmentation')


def show_versions(step: Step) -> None:
    """Versions and hardware."""
    environment = collect_environment()
    packages, hardware = environment['packages'], environment['hardware']
    step.summary = f'mtl_plugins {environment["mtl_plugins"]}, Python {environment["python"]}'
    step.say(', '.join(f'{name} {packages[name]}' for name in (*_SHOWN, *_ORIGINALS) if name in packages))
    gpus = ', '.join(hardware['gpus']) or 'no GPU'
    step.say(f'{hardware["cpu"]}, {hardware["usable_cores"]} cores, {torch.get_num_threads()} threads; {gpus}')


def show_config(step: Step, cfg: Config, path: str) -> None:
    """Where the run goes and how long it is.

    Raises:
        UserError: If a part that training needs is missing.
    """
    step.summary = path
    missing = [name for name in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper') if not cfg.get(name)]
    if missing:
        raise UserError(f'the config has no {", no ".join(missing)}, which training needs')
    length = cfg.train_cfg.get('max_iters') or cfg.train_cfg.get('max_epochs')
    unit = 'iterations' if cfg.train_cfg.get('max_iters') else 'epochs'
    step.say(f'{length} {unit}, seed {(cfg.get("randomness") or {}).get("seed")}, work dir {cfg.work_dir}')
    kept = sorted(Path(cfg.work_dir).glob('*.pth'))
    if kept:
        step.note(f'the work dir already holds checkpoints ({len(kept)}); --resume goes on from the newest')


def check_start(cfg: Config) -> None:
    """Refuse a start from a file that is not there, and an optimizer of which nobody knows.

    Raises:
        FileNotFoundError: See above.
        UserError: See above.
    """
    start = cfg.get('load_from')
    if isinstance(start, str) and '://' not in start and not Path(start).is_file():
        raise UserFileNotFoundError(f'load_from={start}: there is no such file')
    for name in ('val', 'test'):
        check_loop(cfg, name)
    for part in ('', '.*'):  # one optimizer per part of the model
        _check_names(cfg, f'optim_wrapper{part}.optimizer.type', OPTIMIZERS, 'optimizer')
    for name in ('train', 'val', 'test'):
        _check_names(cfg, f'{name}_dataloader.collate_fn.type', FUNCTIONS, 'function')


def check_loop(cfg: Config, name: str) -> None:
    """Refuse a half of a validation or a test.

    Args:
        cfg: The config.
        name: ``'val'`` or ``'test'``.

    Raises:
        UserError: If some of its three entries are there and others are not.
    """
    entries = [f'{name}_{part}' for part in ('dataloader', 'cfg', 'evaluator')]
    absent = [entry for entry in entries if cfg.get(entry) is None]
    if 0 < len(absent) < len(entries):
        given = [entry for entry in entries if entry not in absent]
        raise UserError(
            f'{" and ".join(absent)} must be given beside {" and ".join(given)}, but is None; to do without, set '
            f'{", ".join(entries)} to None'
        )


def _check_names(cfg: Config, pattern: str, registry: Registry, kind: str) -> None:
    """Refuse names that MMEngine looks up without asking whether they are there."""
    for place, name in entries(cfg._cfg_dict, pattern.split('.')):
        with registry.switch_scope_and_registry(None) as local:
            if not isinstance(name, str) or local.get(name) is not None:
                continue
            known = [*local.module_dict, *(local.parent.module_dict if local.parent else ())]
        near = difflib.get_close_matches(name, known, n=2)
        meant = f'; did you mean {" or ".join(map(repr, near))}?' * bool(near)
        raise UserError(f'{place}: there is no {kind} {name!r}{meant}')


def show_model(step: Step, model: nn.Module) -> None:
    """Class, size and tasks of the model."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    step.summary = f'{type(model).__name__}, {trainable:,} trainable parameters, on {next(model.parameters()).device}'
    tasks = getattr(model, 'tasks', None)
    if tasks:
        step.say(f'tasks: {", ".join(tasks)}')
