"""A tiny real Runner with dropout for the tests of checkpoints, resume, signals and several processes.

Also a program: ``python -m tests.runtime.safety WORK_DIR ...`` trains it, for tests that kill it.
"""

import argparse
import errno
import itertools
import logging
import os
import sys
import time
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from mtl_plugins.runtime.checkpoints import atomic_backend, find_newest_loadable, register_safe_loaders
from mtl_plugins.runtime.hooks.preemption import PreemptionHook
from mtl_plugins.runtime.hooks.rng_state import RNGStateHook
from mtl_plugins.runtime.hooks.safe_checkpoint import SafeCheckpointHook

_counter = itertools.count()
SAMPLER = dict(type='InfiniteSampler', shuffle=True, seed=3)


class Numbers(Dataset):
    """Ten fixed samples; nothing is drawn when one is loaded."""

    def __init__(self, features=6):
        generator = torch.Generator().manual_seed(5)
        self.data = torch.randn(10, features, generator=generator)
        self.metainfo = dict(classes=('a', 'b'))

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return dict(inputs=self.data[index], target=self.data[index].sum())


class DropoutModel(BaseModel):
    def __init__(self, features=6, width=8):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, 1))

    def forward(self, inputs, target, mode='tensor'):
        error = (self.body(inputs).squeeze(1) - target).square()
        if mode == 'loss':
            return dict(loss=error.mean())
        return [dict(error=value.item()) for value in error]


class NoisyMetric(BaseMetric):
    """Mean error; draws random numbers on the way, as careless validation code does."""

    default_prefix = 'numbers'

    def process(self, data_batch, data_samples):
        torch.rand(3)
        self.results += [sample['error'] for sample in data_samples]

    def compute_metrics(self, results):
        return dict(error=sum(results) / len(results))


class StopAfter(Hook):
    """Ends training by an exception after ``iterations`` iterations, once everything else is done with them."""

    priority = 'LOWEST'

    class Stop(Exception):
        pass

    def __init__(self, iterations):
        self.iterations = iterations

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iterations:
            raise self.Stop


class Recorder(Hook):
    """Remembers the loss of every iteration."""

    def __init__(self):
        self.losses = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses[runner.iter + 1] = outputs['loss'].item()


def build_runner(
    work_dir,
    hooks=(),
    iters=12,
    val_interval=None,
    resume_from=None,
    batch_size=2,
    num_workers=0,
    checkpoint=None,
    width=8,
    rng_hook=True,
    launcher='none',
    sampler=None,
    **kwargs,
):
    """Build a Runner; ``checkpoint`` are the arguments of the SafeCheckpointHook."""
    register_safe_loaders()
    data = dict(
        batch_size=batch_size,
        num_workers=num_workers,
        persistent_workers=False,
        collate_fn=dict(type='default_collate'),
    )
    checkpoint = dict(interval=1, by_epoch=False) if checkpoint is None else checkpoint
    validation = {}
    if val_interval:
        loader = dict(data, num_workers=0, dataset=Numbers(), sampler=dict(type='DefaultSampler', shuffle=False))
        validation = dict(val_dataloader=loader, val_cfg=dict(), val_evaluator=Evaluator([NoisyMetric()]))
    torch.manual_seed(0)
    settings = dict(
        model=DropoutModel(width=width),
        work_dir=str(work_dir),
        train_dataloader=dict(data, dataset=Numbers(), sampler=sampler or SAMPLER),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iters, val_interval=val_interval or iters + 1),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.01)),
        param_scheduler=dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=iters),
        default_hooks=dict(
            checkpoint=SafeCheckpointHook(**checkpoint),
            timer=dict(type='IterTimerHook'),
            logger=dict(type='LoggerHook', interval=1000, log_metric_by_epoch=False),
        ),
        custom_hooks=[*([RNGStateHook()] if rng_hook else []), *hooks],
        randomness=dict(seed=7),
        load_from=None if resume_from is None else str(resume_from),
        resume=resume_from is not None,
        # MMEngine keeps message hubs and loggers by name for the life of the process.
        experiment_name=f'run{os.getpid()}_{next(_counter)}',
        log_level='WARNING',
        launcher=launcher,
    )
    return Runner(**{**settings, **validation, **kwargs})


def release(runner):
    """Close the log file and end the data workers, which MMEngine leaves to the garbage collector."""
    if getattr(runner._train_loop, 'dataloader_iterator', None) is not None:
        runner._train_loop.dataloader_iterator._iterator = None
    for handler in runner.logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()


def strict_load(path):
    with torch.serialization.safe_globals([]):
        return torch.load(path, weights_only=True)


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir() if path.is_file() and path.suffix != '.py')


def fail_writing(monkeypatch, after_bytes=1000, code=errno.ENOSPC):
    """Make the disk full after ``after_bytes`` bytes of any one file."""
    real = os.write
    written = {}

    def write(descriptor, data):
        written[descriptor] = written.get(descriptor, 0) + len(data)
        if written[descriptor] > after_bytes:
            real(descriptor, bytes(data[:10]))
            raise OSError(code, os.strerror(code))
        return real(descriptor, data)

    monkeypatch.setattr(atomic_backend.os, 'write', write)


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument('work_dir', type=Path)
    parser.add_argument('--iters', type=int, default=100_000)
    parser.add_argument('--interval', type=int, default=1)
    parser.add_argument('--keep', type=int, default=1)
    parser.add_argument('--width', type=int, default=8)
    parser.add_argument('--workers', type=int, default=0)
    parser.add_argument('--pause', type=float, default=0.0, help='seconds that an iteration takes')
    parser.add_argument('--crash-after', type=int, help='raise an exception after so many iterations')
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    resume_from = find_newest_loadable(args.work_dir)
    checkpoint = dict(interval=args.interval, by_epoch=False, max_keep_ckpts=args.keep)

    class Announce(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            time.sleep(args.pause)
            print('iteration', runner.iter + 1, flush=True)
            if runner.iter + 1 == args.crash_after:
                raise ZeroDivisionError

    runner = build_runner(
        args.work_dir,
        hooks=[PreemptionHook(), Announce()],
        iters=args.iters,
        resume_from=resume_from,
        checkpoint=checkpoint,
        width=args.width,
        num_workers=args.workers,
    )
    print('start', resume_from, flush=True)
    runner.train()
    return 0


if __name__ == '__main__':
    sys.exit(main())
