"""Short real runs on partial labels, for any method; what the tests and their second process share."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mtl_plugins.config import build_runner, load_config, set_tasks
from tests.support.tiny import ROOT, shrink

CONFIG = ROOT / 'configs/rooms/gd_vit-micro_8b-2k_rooms-96-partial.py'
ABSENT = 'sal'
PRESENT = ('semseg', 'depth', 'normals', 'edge')
KEYS = 'MTL_TEST_METHODS'
"""Environment variable that tells the second process which methods to run."""
_COUNT = itertools.count()


class Present(Hook):
    """Keeps which tasks each batch of this process had."""

    def __init__(self) -> None:
        self.tasks: list[set[str]] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.tasks.append({name.removesuffix('.loss') for name in outputs if name.endswith('.loss')})


def partial_config(work_dir: Path, method: str, keep: float | dict = 0.5, iterations: int = 4, **options) -> Config:
    """The shipped config for partial labels, made tiny; batches of two images, left to chance."""
    cfg = shrink(load_config(CONFIG, method=method, work_dir=str(work_dir)), iterations)
    cfg.train_dataloader.dataset.num_images = 12
    cfg.train_dataloader.dataset.pipeline[1].keep = keep
    cfg.train_dataloader.sampler = dict(type='mtl_plugins.AbsoluteSampler')
    cfg.model.backbone.drop_path_rate = 0.0
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.custom_hooks = [dict(type='mtl_plugins.RankSyncCheckHook', interval=1)]
    cfg.log_level = 'ERROR'
    cfg.experiment_name = f'partial_{method}_{next(_COUNT)}'
    cfg.merge_from_dict(options)
    return cfg


def without_absent(method: str) -> dict:
    """Labels of a random half of the tasks, and none at all of one task."""
    return dict(keep={**dict.fromkeys(PRESENT, 0.5), ABSENT: 0.0}, method=method)


def restricted(cfg: Config) -> Config:
    """The same run by a model, and a method, that know nothing of the absent task."""
    subset = dict(cfg.train_dataloader.dataset.pipeline[1])
    set_tasks(cfg, list(PRESENT))
    assert cfg.train_dataloader.dataset.pipeline[1] == subset, 'the same labels are drawn'
    return cfg


def train(cfg: Config) -> tuple[Runner, Present]:
    """Run the config."""
    runner, present = build_runner(cfg), Present()
    runner.register_hook(present)
    runner.train()
    return runner, present


def weights(runner: Runner) -> dict[str, torch.Tensor]:
    """Copies of the trained weights."""
    model = runner.model.module if hasattr(runner.model, 'module') else runner.model
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def methods_to_run() -> list[str]:
    """What the second process reads from its environment."""
    return os.environ[KEYS].split(',')
