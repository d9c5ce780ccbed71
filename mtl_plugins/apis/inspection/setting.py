"""What a config says before anything is built from it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import OPTIMIZERS
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mtl_plugins.apis.missing_packages import refuse_missing_packages
from mtl_plugins.engine.checkpoints import safe_loading
from mtl_plugins.engine.hooks import LoadReportHook
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
    """Where the run goes and how long it is; checks that the files that it starts from exist.

    Raises:
        ValueError: If a part that training needs is missing, or the whole step would be compiled.
        FileNotFoundError: If ``load_from`` does not exist.
    """
    step.summary = path
    missing = [name for name in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper') if not cfg.get(name)]
    if missing:
        raise UserError(f'the config has no {", no ".join(missing)}, which training needs')
    refuse_missing_packages(cfg.model)
    length = cfg.train_cfg.get('max_iters') or cfg.train_cfg.get('max_epochs')
    unit = 'iterations' if cfg.train_cfg.get('max_iters') else 'epochs'
    step.say(f'{length} {unit}, seed {(cfg.get("randomness") or {}).get("seed")}, work dir {cfg.work_dir}')
    if cfg.get('compile'):
        raise UserError(
            'cfg.compile compiles the whole train_step, which multi-task steps cannot have; remove it (the backbone '
            'alone may be compiled)'
        )
    check_start(cfg)
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
    wrapper = cfg.get('optim_wrapper') or {}
    parts = {f'optim_wrapper.{name}': part for name, part in wrapper.items()}  # one optimizer per part of the model
    for place, part in {'optim_wrapper': wrapper, **parts}.items():
        if isinstance(part, dict):
            _check_optimizer(part.get('optimizer'), f'{place}.optimizer')


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


def _check_optimizer(optimizer: Any, place: str) -> None:
    name = optimizer.get('type') if isinstance(optimizer, dict) else None
    with OPTIMIZERS.switch_scope_and_registry(None) as registry:
        if not isinstance(name, str) or registry.get(name) is not None:
            return
        known = [*registry.module_dict, *(registry.parent.module_dict if registry.parent else ())]
        near = difflib.get_close_matches(name, known, n=2)
    meant = f'; did you mean {" or ".join(map(repr, near))}?' * bool(near)
    raise UserError(f'{place}.type: there is no optimizer {name!r}{meant}')


def load_start(step: Step, model: nn.Module, cfg: Config) -> None:
    """Load what training would start from, into the model.

    Raises:
        UserError: If it cannot be loaded, or does not fit.
    """
    start = cfg.get('load_from')
    if not start or cfg.get('resume'):
        return
    hooks = [hook for hook in cfg.get('custom_hooks') or () if str(hook.get('type')).endswith('LoadReportHook')]
    with safe_loading():
        checkpoint = CheckpointLoader.load_checkpoint(start, map_location='cpu', logger='silent')
    hook = LoadReportHook(**{name: value for name, value in (hooks[0] if hooks else {}).items() if name == 'mismatch'})
    fit = hook.fit(model, checkpoint, start)
    step.say(f'starts from {start}: {len(fit.loaded)} tensors of it')
    for what, names in (('not in it', fit.new), ('in it, not in the model', fit.dropped)):
        if names:
            step.note(f'{len(names)} tensors are {what}, such as {names[0]}')
