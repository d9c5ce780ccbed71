"""Settings under which every shipped config trains within a second or two on one core."""

from __future__ import annotations

import importlib.util
import uuid
from pathlib import Path

from mtl_plugins.config.datasets import LOADERS, leaf_datasets

from .programs import run
from .stand_ins import TYPES, stand_in

ROOT = Path(__file__).parents[2]
ROOMS = str(ROOT / 'configs/rooms/stgu_vit-micro_8b-2k_rooms-96.py')
PHOTOS = str(ROOT / 'configs/photos/stgu_vit-micro_8b-1k_photos-96.py')
MODEL = {'embed_dim': 16, 'depth': 2, 'num_heads': 2, 'out_indices': (0, 1)}
HRNET = {
    f'stage{n}': dict(
        num_modules=1,
        num_branches=n,
        block='BASIC' if n > 1 else 'BOTTLENECK',
        num_blocks=(1,) * n,
        num_channels=(4, 6, 8, 10)[:n],
    )
    for n in (1, 2, 3, 4)
}
BACKBONES = {
    'mtl_plugins.TimmViT': MODEL,
    'mmseg.HRNet': {'extra': HRNET},
    'mmseg.ResNet': {'depth': 18, 'base_channels': 8},
}
TIMM = {'vit': MODEL, 'tf': {'model_name': 'mobilenetv3_small_050'}, 'resnet10t': {}}
"""How the backbones of the shipped configs are made small, those of TimmBackbone by the first part of their name."""
DATA = {'mtl_plugins.RoomsDataset': {'num_images': 4}, 'mtl_plugins.PhotosDataset': {'crops_per_image': 1}}
"""Datasets that need no download, and how they are made small; the others have a stand-in."""


def shrink(cfg, iterations=2):
    """Make a config of ours tiny, in place."""
    cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    for name in LOADERS:
        cfg[name].update(batch_size=2, num_workers=0, persistent_workers=False)
    for _, dataset in leaf_datasets(cfg):
        if dataset.type in TYPES:
            dataset.data_root = str(stand_in(TYPES[dataset.type]))
        else:
            dataset.update(DATA[dataset.type])
    backbone = cfg.model.backbone
    backbone.update(
        TIMM[backbone.model_name.partition('_')[0]] if 'TimmB' in backbone.type else BACKBONES[backbone.type]
    )
    if backbone.get('pretrained'):
        backbone.pretrained = False
    if backbone.get('frozen'):
        backbone.init_cfg = dict(type='TruncNormal', layer=['Linear', 'Conv2d'], std=0.02)
    if cfg.model.get('decoder', {}).get('type') == 'mtl_plugins.PyramidDecoder':
        cfg.model.decoder.channels = 8
    if cfg.model.get('decoder', {}).get('type') == 'mtl_plugins.InvPTDecoder':
        cfg.model.decoder.update(dims=(16, 8, 8), pred_channels=8)
    for head in cfg.model.heads.values():
        if head.get('predictor', {}).get('channels'):
            head.predictor.channels = 8
    for metric in cfg.val_evaluator.get('metrics', ()):
        if isinstance(metric, dict) and 'thresholds' in metric:
            metric['thresholds'] = [0.3, 0.6]
    if 'warmup_iters' in cfg.optim_wrapper:
        cfg.optim_wrapper.update(warmup_iters=1, regroup_interval=1)
    for hook in cfg.custom_hooks:
        if hook.type == 'mtl_plugins.AffinityHook':
            hook.interval = 1
        if hook.type == 'mtl_plugins.PredictionPanelHook':
            hook.num_panels = 1
    cfg.experiment_name = uuid.uuid4().hex
    return cfg


def options(iterations=2, *more):
    """The same for the Rooms configs on a command line."""
    loaders = [
        f'{loader}.{setting}'
        for loader in LOADERS
        for setting in ('batch_size=2', 'num_workers=0', 'persistent_workers=False', 'dataset.num_images=4')
    ]
    model = [f'model.backbone.{name}={str(value).replace(" ", "")}' for name, value in MODEL.items()]
    run = [
        f'train_cfg.max_iters={iterations}',
        f'train_cfg.val_interval={iterations}',
        'custom_hooks.9.num_panels=1',
        f'experiment_name={uuid.uuid4().hex}x',
    ]
    return ['--cfg-options', *loaders, *model, *run, *more]


def run_tool(path, *args, cwd, timeout=240):
    """Run a tool as a user does."""
    return run(ROOT / 'tools' / path, *args, cwd=cwd, timeout=timeout)


def load_tool(path):
    """A tool as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / 'tools' / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
