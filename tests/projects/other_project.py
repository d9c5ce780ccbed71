"""A project of its own, which knows this package by ``custom_imports`` and ``optim_wrapper.type`` alone.

:func:`train` follows the pattern of the training scripts of OpenMMLab projects. As a program this file goes through the
life of such a project, one step after the other, and prints what came of each as JSON.
"""

import argparse
import json
import logging
import os.path as osp
import sys
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS, RUNNERS
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

STOCK = """
custom_imports = dict(imports=['tests.projects.other_project'], allow_failed_imports=False)
default_scope = 'mmengine'
model = dict(type='TwoLosses')
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dict(type='Points'), collate_fn=dict(type='default_collate'),
    sampler=dict(type='InfiniteSampler', shuffle=True, seed=1),
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=4)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=0.01))
param_scheduler = [dict(type='LinearLR', start_factor=0.5, by_epoch=False, end=3)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False))
env_cfg = dict()
randomness = dict(seed=3)
log_level = 'WARNING'
"""
IMPORTED = """
_base_ = 'stock.py'
custom_imports = dict(
    imports=['tests.projects.other_project', 'mtl_plugins', 'mtl_plugins.engine'], allow_failed_imports=False
)
"""
OURS = """
_base_ = 'stock.py'
custom_imports = dict(imports=['tests.projects.other_project', 'mtl_plugins'], allow_failed_imports=False)
optim_wrapper = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='PCGrad'), seed=1)
"""
FLEXIBLE = "_base_ = 'ours.py'\nrunner_type = 'FlexibleRunner'\n"
CONFIGS = dict(stock=STOCK, imported=IMPORTED, ours=OURS, flexible=FLEXIBLE)


class Label:
    """A class of the project, which its checkpoints hold and only an unsafe load brings back."""

    def __init__(self, name):
        self.name = name

    def __eq__(self, other):
        return self.name == other.name

    __hash__ = None


@DATASETS.register_module(force=True)
class Points(torch.utils.data.Dataset):
    def __init__(self):
        self.metainfo = dict(classes=[Label('left'), Label('right')])

    def __len__(self):
        return 8

    def __getitem__(self, index):
        point = torch.randn(4, generator=torch.Generator().manual_seed(index))
        return dict(inputs=point, target=point.sum())


@MODELS.register_module(force=True)
class TwoLosses(BaseModel):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.first, self.second = nn.Linear(4, 1), nn.Linear(4, 1)

    def forward(self, inputs, target, mode='tensor'):
        features = self.body(inputs)
        first, second = self.first(features).squeeze(1), self.second(features).squeeze(1)
        return dict(loss_first=(first - target).square().mean(), loss_second=(second + target).abs().mean())


def train(arguments):
    """``tools/train.py`` of such a project."""
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    parser.add_argument('--work-dir')
    parser.add_argument('--resume', action='store_true')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    parser.add_argument('--launcher', choices=('none', 'pytorch'), default='none')
    args = parser.parse_args(arguments)
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    cfg.resume = args.resume
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.train()
    return runner


class Life:
    """The steps, each with a name for its outcome."""

    def __init__(self, folder):
        self.folder = folder
        self.outcomes = {}
        self.count = 0
        for name, text in CONFIGS.items():
            (folder / f'{name}.py').write_text(text)

    def step(self, name, config, work_dir, *more, options=()):
        self.count += 1
        lines = []
        before = logging.Logger.handle

        def handle(logger, record):
            if record.levelno >= logging.WARNING:
                lines.append(record.getMessage())
            before(logger, record)

        logging.Logger.handle = handle
        given = [f'experiment_name=step{self.count}', *options]
        try:
            path, run = str(self.folder / f'{config}.py'), str(self.folder / work_dir)
            runner = train([path, '--work-dir', run, *more, '--cfg-options', *given])
        finally:
            logging.Logger.handle = before
        weights = torch.cat([value.flatten() for value in runner.model.state_dict().values()]).tolist()
        warnings = [line for line in lines if 'mtl_plugins' in line or 'Resuming' in line]
        rate = runner.optim_wrapper.param_groups[0]['lr']
        self.outcomes[name] = dict(iter=runner.iter, weights=weights, rate=rate, warnings=warnings)

    def cut(self, whole, part):
        """A work dir as it was when the run had made half of its iterations."""
        (self.folder / part).mkdir()
        saved = (self.folder / whole / 'iter_2.pth').read_bytes()
        (self.folder / part / 'iter_2.pth').write_bytes(saved)
        (self.folder / part / 'last_checkpoint').write_text(str(self.folder / part / 'iter_2.pth'))


def main(folder):
    life = Life(folder)
    life.step('alone', 'stock', 'alone')
    loaders = dict(CheckpointLoader._schemes)
    life.cut('alone', 'alone_half')
    life.step('resumed beside the import', 'imported', 'alone_half', '--resume')
    for config in ('ours', 'flexible'):
        life.step(config, config, config)
        life.cut(config, f'{config}_half')
        life.step(f'{config} resumed', config, f'{config}_half', '--resume')
    safe = 'default_hooks.checkpoint.type=mtl_plugins.SafeCheckpointHook'
    life.step('our hook', 'flexible', 'hook', options=[safe])
    life.cut('hook', 'hook_half')
    longer = [safe, 'train_cfg.max_iters=6', 'param_scheduler.0.end=9']
    life.step('our hook, longer', 'flexible', 'hook_half', '--resume', options=longer)
    life.cut('ours', 'other_rate')
    options = ['optim_wrapper.optimizer.lr=0.5', 'train_cfg.max_iters=6']
    life.step('another rate', 'ours', 'other_rate', '--resume', options=options)
    for config, more in (('ours', []), ('flexible', ['train_cfg.max_iters=6'])):
        life.cut(config, f'{config}_replanned')
        options = ['param_scheduler.0.start_factor=0.1', *more]
        life.step(f'{config} replanned', config, f'{config}_replanned', '--resume', options=options)
    options = [f'load_from={folder / "alone" / "iter_4.pth"}', 'train_cfg.max_iters=0']
    life.step('from the old weights', 'ours', 'from_old', options=options)
    life.outcomes['loaders as before'] = loaders == CheckpointLoader._schemes
    (folder / 'outcomes.json').write_text(json.dumps(life.outcomes))


if __name__ == '__main__':
    main(Path(sys.argv[1]))
