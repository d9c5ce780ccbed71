"""Small real runs of the shipped Rooms configs, for tests that need the whole training loop."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mtl_plugins.config import build_runner, load_config

ROOT = Path(__file__).parents[2]
_COUNT = itertools.count()


class Recorder(Hook):
    """Keeps the losses and groups of every iteration."""

    def __init__(self) -> None:
        self.losses: dict[int, dict[str, float]] = {}
        self.groups: dict[int, list] = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses[runner.iter] = {name: value.item() for name, value in outputs.items()}
        if hasattr(runner.optim_wrapper, 'group_names'):
            self.groups[runner.iter] = runner.optim_wrapper.group_names


def tiny_config(work_dir: Path, cache_dir: Path, method: str = 'stgu', **options: Any) -> Config:
    """The Rooms config, shrunk: 3 tasks, 48 x 48 pixels, a ViT of 3 blocks with drop-path 0.15."""
    tasks = ['semseg', 'depth', 'normals']
    data = {'dataset.cache_dir': str(cache_dir), 'dataset.size': (48, 48), 'dataset.num_images': 11, 'num_workers': 0}
    loaders = {
        f'{split}_dataloader.{key}': value
        for split in ('train', 'val', 'test')
        for key, value in {**data, 'batch_size': 2, 'persistent_workers': False, 'dataset.tasks': tasks}.items()
    }
    backbone = dict(
        img_size=(48, 48), patch_size=12, embed_dim=24, depth=3, num_heads=2, out_indices=(0, 1, 2), drop_path_rate=0.15
    )
    cfg = load_config(
        ROOT / f'configs/rooms/{method}_vit-micro_8b-2k_rooms-96.py',
        {
            **loaders,
            **{f'model.backbone.{key}': value for key, value in backbone.items()},
            'train_dataloader.dataset.pipeline.2.transforms.1.size': (48, 48),
            'train_cfg.val_interval': 1000,
            'val_evaluator.tasks': tasks,
            'test_evaluator.tasks': tasks,
            'default_hooks.logger.interval': 1000,
            'log_level': 'ERROR',
        },
        work_dir=str(work_dir),
    )
    for task in set(cfg.model.heads) - set(tasks):
        cfg.model.heads.pop(task)
    if method == 'stgu':
        cfg.merge_from_dict(
            {
                'optim_wrapper.affinity.decay': 0.2,
                'optim_wrapper.warmup_iters': 3,
                'optim_wrapper.regroup_interval': 2,
                'optim_wrapper.probe_interval': 2,
            }
        )
    cfg.merge_from_dict(options)
    # Pictures are not what these runs are about, and cost more than their training.
    cfg.custom_hooks = [
        hook for hook in cfg.custom_hooks if not hook['type'].endswith(('PredictionPanelHook', 'AffinityHook'))
    ]
    # Runners of one process would share MMEngine's global message hub if they had the same name.
    cfg.experiment_name = f'tiny_{method}_{next(_COUNT)}'
    return cfg


def train(cfg: Config) -> tuple[Runner, Recorder]:
    """Run the config; returns the finished Runner and what was recorded."""
    runner = build_runner(cfg)
    recorder = Recorder()
    runner.register_hook(recorder)
    runner.train()
    return runner, recorder


def state_of(runner: Runner) -> dict[str, Any]:
    """Weights, optimizer, method and random numbers of a finished run."""
    model = runner.model.module if hasattr(runner.model, 'module') else runner.model
    return dict(
        weights={name: value.clone() for name, value in model.state_dict().items()},
        optimizer=runner.optim_wrapper.state_dict(),
        rng=torch.get_rng_state(),
    )


def differences(first: Any, second: Any, where: str = '') -> list[str]:
    """Places at which two nested states differ, bit for bit."""
    if isinstance(first, torch.Tensor):
        if first.shape != second.shape or first.dtype != second.dtype:
            return [where]
        # A state may hold NaN, for what is not known yet.
        equal = (first == second) | ((first != first) & (second != second))
        return [] if equal.all() else [where]
    if isinstance(first, dict):
        keys = [] if first.keys() == second.keys() else [f'{where}: {sorted(map(str, first.keys() ^ second.keys()))}']
        shared = [key for key in first if key in second]
        return keys + [d for key in shared for d in differences(first[key], second[key], f'{where}.{key}')]
    if isinstance(first, (list, tuple)):
        if len(first) != len(second):
            return [where]
        return [d for i, (a, b) in enumerate(zip(first, second)) for d in differences(a, b, f'{where}[{i}]')]
    return [] if first == second or (first != first and second != second) else [f'{where}: {first} != {second}']
