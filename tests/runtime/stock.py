"""Runs of a project that uses MMEngine alone: its own wrapper, its own checkpoint hook."""

import itertools
import os

import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from .safety import DropoutModel, Numbers, release

_count = itertools.count()
SCHEDULES = dict(
    warmup=[
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2),
        dict(type='MultiStepLR', by_epoch=False, milestones=[1, 2]),
    ],
    one_cycle=[dict(type='OneCycleLR', eta_max=0.1, total_steps=8, by_epoch=False)],
    restarts=[dict(type='CosineRestartLR', periods=[2, 6], restart_weights=[1, 0.5], eta_min=0.0, by_epoch=False)],
    plateau=[dict(type='ReduceOnPlateauLR', monitor='error', patience=1)],
    momentum=[dict(type='ConstantMomentum', factor=0.5, by_epoch=False, end=3)],
)


def build_stock(work_dir, iters=2, schedule='warmup', optimizer=None, wrapper=None, **kwargs):
    """A Runner with nothing of ours."""
    torch.manual_seed(0)
    name = f'stock{os.getpid()}_{next(_count)}'
    DefaultScope.get_instance(name, scope_name='mmengine')
    return Runner(
        model=DropoutModel(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            dataset=Numbers(),
            sampler=dict(type='InfiniteSampler', shuffle=True, seed=3),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iters),
        optim_wrapper=wrapper or dict(optimizer=optimizer or dict(type='Adam', lr=0.01)),
        param_scheduler=SCHEDULES[schedule],
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False),
            logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
        ),
        randomness=dict(seed=7),
        experiment_name=name,
        log_level='ERROR',
        **kwargs,
    )


def run_stock(work_dir, **options):
    """Train one; returns its last checkpoint."""
    runner = build_stock(work_dir, **options)
    runner.train()
    release(runner)
    return work_dir / f'iter_{runner.iter}.pth'
