"""The Runner of a config."""

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mtl_plugins.compat import prepare_cpu_ddp
from mtl_plugins.engine.hooks import ClassWeightHook, CostHook
from mtl_plugins.errors import UserError
from mtl_plugins.registry import RUNNERS
from mtl_plugins.runtime.checkpoints import register_safe_loaders
from mtl_plugins.runtime.hooks import LoadReportHook, TargetCheckHook

from .foreign_hooks import save_plain_checkpoints
from .places import kind_of
from .pretrained_weights import fetching
from .refusals import refusals_of
from .start import check_start, keep_task_order
from .task_checks import TaskCheckHook
from .unavailable import refuse_missing_packages, refuse_sync_bn_on_cpu


def build_runner(cfg: Config) -> Runner:
    """The Runner of a config, with what must be settled before it.

    It loads checkpoints without running code: from here on the loaders of this process are the safe ones, see
    :func:`mtl_plugins.runtime.checkpoints.safe_loading`.

    Raises:
        ValueError: If the config asks for ``compile``, which multi-task steps cannot be, or for SyncBatchNorm on a
            machine without CUDA.
    """
    if cfg.get('compile'):
        raise UserError(
            'cfg.compile compiles the whole train_step, which makes several forwards and backwards in multi-task '
            'training. Remove it, and compile the backbone instead (mtl_plugins.CompileHook)'
        )
    check_start(cfg)
    register_safe_loaders()
    refuse_missing_packages(cfg.get('model'))
    refuse_sync_bn_on_cpu(cfg)
    prepare_cpu_ddp(cfg, cfg.get('launcher', 'none'))
    save_plain_checkpoints(cfg)
    keep_task_order(cfg)
    _collate_in_workers(cfg)
    if (cfg.get('default_hooks') or {}).get('target_check'):  # perhaps by an option alone, in any config
        cfg.default_hooks.target_check.setdefault('type', 'mtl_plugins.TargetCheckHook')
    with refusals_of(cfg), fetching(cfg):
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    for kind in (LoadReportHook, TargetCheckHook, TaskCheckHook, ClassWeightHook, CostHook):
        if not any(isinstance(hook, kind) for hook in runner.hooks):
            runner.register_hook(kind())
    return runner


def _collate_in_workers(cfg: Config) -> None:
    """Let training batches for our preprocessor be stacked and pinned before they are copied to a GPU."""
    loader, model = cfg.get('train_dataloader'), cfg.get('model') or {}
    ours = kind_of(model.get('data_preprocessor')) == 'MultiTaskDataPreProcessor'
    if ours and torch.cuda.is_available() and isinstance(loader, dict):
        loader.setdefault('pin_memory', True)
        loader.setdefault('collate_fn', dict(type='mtl_plugins.collate_targets'))


def run(runner: Runner) -> None:
    """Train; what the config cannot have, or cannot fetch, is one sentence."""
    with refusals_of(runner.cfg), fetching(runner.cfg):
        runner.train()
