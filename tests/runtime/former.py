"""Small runs whose checkpoints are kept in ``tests/data``, to be resumed by every later version.

As a program, with the code of the version that is to be kept: ``python -m tests.runtime.former FOLDER``.
"""

import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from mtl_plugins.config.files import configs_root
from mtl_plugins.engine.hooks import EpochLengthHook
from mtl_plugins.runtime.hooks.rng_state import RNGStateHook
from mtl_plugins.runtime.hooks.safe_checkpoint import SafeCheckpointHook

CASES = {
    'gd': ('gd', {}),
    'gd_accumulated': ('gd', dict(accumulative_counts=2)),
    'pcgrad_fp16': ('pcgrad', dict(precision='fp16')),
    'moco': ('moco', {}),
    'uw': ('uw', {}),
    'stgu': ('stgu', dict(warmup_iters=2, regroup_interval=1, probe_interval=1)),
    'ada_task': ('ada_task', {}),
    'f_mtl': ('f_mtl', {}),
}
"""Name -> method, and further entries of ``optim_wrapper``."""
STOP, END = 4, 8


class Points(Dataset):
    metainfo = dict(classes=('a', 'b'))

    def __len__(self):
        return 10

    def __getitem__(self, index):
        point = torch.randn(4, generator=torch.Generator().manual_seed(index))
        return dict(inputs=point, target=point.sum())


class ThreeTasks(BaseModel):
    tasks = ('a', 'b', 'c')

    def __init__(self, dropout):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Dropout(dropout))
        self.heads = nn.ModuleDict({task: nn.Linear(4, 1) for task in self.tasks})

    def forward(self, inputs, target, mode='tensor'):
        features = self.body(inputs)
        found = {task: head(features).squeeze(1) for task, head in self.heads.items()}
        return dict(
            loss_a=(found['a'] - target).square().mean(),
            loss_b=(found['b'] + target).abs().mean(),
            loss_c=(found['c'] - target.square()).square().mean(),
        )


def run(case, work_dir, resume_from=None):
    """Train, from the beginning or from a checkpoint; returns the weights."""
    method, options = CASES[case]
    wrapper = Config.fromfile(str(configs_root() / '_base_' / 'methods' / f'{method}.py')).optim_wrapper.to_dict()
    wrapper['optimizer'] = dict(type='Adam', lr=0.01) | wrapper.get('optimizer', {})
    torch.manual_seed(0)
    runner = Runner(
        # Under accumulation version 0.1.0 drew other masks for the step than for what it logged; no later one does.
        model=ThreeTasks(0.0 if 'accumulative_counts' in options else 0.2),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            dataset=Points(),
            sampler=dict(type='InfiniteSampler', shuffle=True, seed=3),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=END),
        optim_wrapper=dict(wrapper, tasks={task: f'loss_{task}' for task in ThreeTasks.tasks}, seed=1, **options),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=3),
            dict(type='PolyLR', by_epoch=False, begin=3, end=END),
        ],
        default_hooks=dict(
            checkpoint=SafeCheckpointHook(interval=STOP, by_epoch=False), logger=dict(type='LoggerHook', interval=100)
        ),
        custom_hooks=[RNGStateHook(), EpochLengthHook()],
        randomness=dict(seed=7),
        experiment_name=f'{case}{Path(work_dir).name}',
        log_level='ERROR',
        load_from=None if resume_from is None else str(resume_from),
        resume=resume_from is not None,
    )
    runner.train()
    return runner.model.state_dict()


if __name__ == '__main__':
    for name in CASES:
        folder = Path(sys.argv[1]) / name
        torch.save(run(name, folder), folder / 'final.pth')
