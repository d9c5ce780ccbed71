"""What a config says before anything is built from it."""

from pathlib import Path

import torch
from mmengine.config import Config
from torch import nn

from mtl_plugins.errors import UserError
from mtl_plugins.runtime.hooks.environment import collect_environment

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


def show_model(step: Step, model: nn.Module) -> None:
    """Class, size and tasks of the model."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    step.summary = f'{type(model).__name__}, {trainable:,} trainable parameters, on {next(model.parameters()).device}'
    tasks = getattr(model, 'tasks', None)
    if tasks:
        step.say(f'tasks: {", ".join(tasks)}')
