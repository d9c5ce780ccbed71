"""Check a set-up before training: ``tools/doctor.py`` and ``python -m mtl_plugins doctor``."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mtl_plugins.engine.checkpoints import safe_loading
from mtl_plugins.engine.checkpoints.init_files import check_init_files
from mtl_plugins.engine.hooks.class_weights import settle_class_weights
from mtl_plugins.utils.cfg_options import ConfigArgumentParser

from .arguments import add_data_root, add_precision, add_tasks
from .configs import load_config
from .foreign_hooks import save_plain_checkpoints
from .inspection import data, running, setting, training
from .inspection.hints import hint_for
from .inspection.report import Report, Step, StepFailed
from .pretrained_weights import fetching


def build_parser() -> ConfigArgumentParser:
    """The options of ``doctor``."""
    parser = ConfigArgumentParser(
        prog='doctor',
        description='Build everything that a config describes, train and validate on one batch, and report what is '
        'there, what it costs, and the first error. Nothing is written into the work dir.',
        epilog='exit codes: 0 no error, 1 an error, 2 wrong arguments',
    )
    parser.add_argument('config', help='config file, of mtl_plugins or any MMSegmentation one')
    parser.add_argument('--method', metavar='KEY', help='swap the multi-task method; see tools/train.py --list-methods')
    add_precision(parser)
    parser.add_argument('--traceback', action='store_true', help='show where an error came from')
    add_tasks(parser)
    add_data_root(parser)
    return parser


@safe_loading()
def main(argv: Sequence[str] | None = None) -> int:
    """Parse ``argv`` and examine the config; returns the exit code."""
    args = build_parser().parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', '0')
    # Private ones, and no log file: warnings and errors still reach the terminal.
    name = f'doctor-{uuid.uuid4().hex[:8]}'
    MMLogger.get_instance(name, logger_name='doctor', log_level='WARNING')
    MessageHub.get_instance(name)
    examination = Examination(args)
    try:
        examination.run()
    except StepFailed:
        return 1
    examination.report.finish()
    return 0


class Examination:
    """Builds one part after the other, each from the config and what was built before.

    Args:
        args: Options, see :func:`build_parser`.
        report: Where findings go; None for a new one on the standard output.
    """

    def __init__(self, args, report: Report | None = None) -> None:
        self.args = args
        self.cfg: Config | None = None
        self.report = report or Report(hint=lambda error: hint_for(error, self.cfg), show_traceback=args.traceback)
        self.device = torch.device(get_device())

    def run(self) -> None:
        """Examine everything.

        Raises:
            StepFailed: At the first error, which the report has explained.
        """
        report = self.report
        with report.step('versions') as step:
            setting.show_versions(step)
        with report.step('config') as step:
            args = self.args
            self.cfg = load_config(
                args.config, args.cfg_options, args.method, args.precision, data_root=args.data_root, tasks=args.tasks
            )
            setting.show_config(step, self.cfg, args.config)
            save_plain_checkpoints(self.cfg)
        cfg = self.cfg
        init_default_scope(cfg.get('default_scope') or 'mmengine')
        seed = (cfg.get('randomness') or {}).get('seed')
        torch.manual_seed(seed or 0)
        with report.step('training data') as step:
            loader = data.build_loader(cfg.train_dataloader, seed)
            data.show_dataset(step, loader.dataset, cfg.train_dataloader)
        with report.step('one batch') as step:
            batch = data.take_batch(step, loader)
        with report.step('model') as step:
            model = self.build_model(step)
            setting.load_start(step, model, cfg)
            data.compare_tasks(step, model, loader.dataset)
            settle_class_weights(model, loader.dataset)
        with report.step('optimizer') as step:
            wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
            training.show_optimizer(step, wrapper)
        with report.step('training step') as step:
            training.run_steps(step, model, wrapper, batch, self.device)
        with report.step('parameters') as step:
            training.show_parameters(step, model, wrapper, batch)
        if cfg.get('val_dataloader') and cfg.get('val_evaluator'):
            with report.step('validation data') as step:
                val_loader = data.build_loader(cfg.val_dataloader, seed)
                data.show_dataset(step, val_loader.dataset, cfg.val_dataloader)
            with report.step('validation') as step:
                running.show_validation(step, model, val_loader, cfg.val_evaluator)
        if cfg.get('test_dataloader'):
            with report.step('test data') as step:
                dataset = data.build_dataset(cfg, 'test_dataloader')
                data.show_dataset(step, dataset, cfg.test_dataloader)
                if cfg.get('test_evaluator'):
                    running.check_evaluator(step, model, dataset, cfg.test_evaluator, 'test_evaluator')
        with report.step('schedules') as step:
            running.show_schedules(step, cfg, wrapper, len(loader))
        with report.step('hooks') as step:
            running.show_hooks(step, cfg, model, wrapper, loader.dataset)

    def build_model(self, step: Step) -> nn.Module:
        """The model with its first weights, in training mode, on the device."""
        with fetching(self.cfg):
            model = MODELS.build(self.cfg.model)
        if any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()):
            model = revert_sync_batchnorm(model)
            step.say('SyncBatchNorm is examined as BatchNorm: here is one process')
        if hasattr(model, 'init_weights'):
            check_init_files(model)
            with fetching(self.cfg):
                model.init_weights()
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        step.summary = f'{type(model).__name__}, {trainable:,} trainable parameters, on {self.device}'
        tasks = getattr(model, 'tasks', None)
        if tasks:
            step.say(f'tasks: {", ".join(tasks)}')
        return model.to(self.device).train()
