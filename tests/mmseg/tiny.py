"""The configs for existing pipelines, with models that take a fraction of a second per iteration on one core."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import torch

from mtl_plugins.cli import train
from mtl_plugins.config import load_config
from mtl_plugins.config.datasets import LOADERS, leaf_datasets
from tests.support.stand_ins import stand_in

ROOT = Path(__file__).parents[2]
MMSEG = {
    'fcn': 'configs/mmseg/fcn_r18-d8_1xb8-2k_rooms-96x96.py',
    'segformer': 'configs/mmseg/segformer_mit-b0_1xb8-2k_rooms-96x96.py',
    'upernet': 'configs/mmseg/upernet_swin-tiny_1xb8-2k_rooms-96x96.py',
    'depth': 'configs/mmseg/depth_r18_1xb8-2k_rooms-96x96.py',
}
PATHS = {**MMSEG, 'digits': 'projects/digits/digits_convnet_1xb64-10e.py'}
METHODS = ('gd', 'stgu', 'cagrad', 'famo', 'f_mtl')
NOISE = (
    'ignore:Default ``avg_non_ignore`` is False:UserWarning',
    'ignore:The draw is False:UserWarning',
    'ignore:torch.utils.checkpoint:UserWarning',
)
"""What mmseg says about its own defaults."""

_RESNET = dict(base_channels=16, stem_channels=16)
SMALL = {
    'fcn': dict(
        backbone=_RESNET,
        decode_head=dict(in_channels=128, channels=16),
        auxiliary_head=dict(in_channels=64, channels=16),
    ),
    'segformer': dict(
        backbone=dict(embed_dims=8, num_layers=[1, 1, 1, 1]),
        decode_head=dict(in_channels=[8, 16, 40, 64], channels=16),
        auxiliary_head=dict(in_channels=40, channels=16),
    ),
    'upernet': dict(
        backbone=dict(embed_dims=12, depths=[1, 1, 1, 1]),
        decode_head=dict(in_channels=[12, 24, 48, 96], channels=16),
        auxiliary_head=dict(in_channels=48, channels=16),
    ),
    'depth': dict(
        backbone=_RESNET,
        decode_head=dict(in_channels=[16, 32, 64, 128], embed_dim=4, feature_dim=32, num_deconv_filters=(8,)),
        auxiliary_head=dict(in_channels=64, channels=16),
    ),
    'digits': dict(channels=4),
}


def small_config(name, work_dir, iterations=2, *, method=None, size=(32, 32), shrink=True, path=None):
    """A config of :data:`PATHS` (or ``path``, which inherits from it) for a short run."""
    cfg = load_config(path or ROOT / PATHS[name], method=method, work_dir=str(work_dir), seed=0)
    for loader in LOADERS:
        if cfg.get(loader):
            cfg[loader].update(num_workers=0, persistent_workers=False)
    if name in MMSEG:
        cfg.train_dataloader.batch_size = 2
        for _, dataset in leaf_datasets(cfg):
            dataset.data_root = str(stand_in('mmseg'))
        cfg.model.data_preprocessor.size = size
        for transform in cfg.train_dataloader.dataset.pipeline:
            if transform.type == 'RandomCrop':
                transform.crop_size = size
    else:
        # Twenty iterations, as an epoch of this loop.
        cfg.train_dataloader.update(batch_size=72, drop_last=True)
        cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    if shrink:
        cfg.merge_from_dict({'model': SMALL[name]})
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=iterations)
    if 'warmup_iters' in cfg.optim_wrapper:
        cfg.optim_wrapper.update(warmup_iters=1, regroup_interval=1, probe_interval=1)
    cfg.log_level = 'ERROR'
    cfg.experiment_name = uuid.uuid4().hex
    if cfg.get('visualizer'):
        cfg.visualizer.name = cfg.experiment_name  # one per run of this process
    return cfg


def without_validation(cfg):
    """The same config, which only trains."""
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    return cfg


def run(cfg):
    """Train in this process; returns the checkpoint."""
    train.build_runner(cfg).train()
    return checkpoint_of(cfg)


def run_on_two_ranks(cfg, seconds=240):
    """Train by ``tools/dist_train.sh`` on two gloo processes; returns rank 0's checkpoint."""
    path = Path(cfg.work_dir).with_suffix('.py')
    cfg.dump(path)
    environment = {**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    command = ['bash', str(ROOT / 'tools/dist_train.sh'), str(path), '2', '--work-dir', cfg.work_dir]
    done = subprocess.run(
        command, cwd=path.parent, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    return checkpoint_of(cfg)


def checkpoint_of(cfg):
    """What a run of ``cfg`` wrote at its last iteration."""
    path = Path(cfg.work_dir) / f'iter_{cfg.train_cfg.max_iters}.pth'
    return torch.load(path, weights_only=True)


def differences(first, second):
    """Names of weights and buffers that differ in any bit."""
    assert first.keys() == second.keys()
    return [name for name, value in first.items() if not torch.equal(value, second[name])]
