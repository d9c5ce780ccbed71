"""Check a set-up before training: ``tools/doctor.py`` and ``python -m mtl_plugins doctor``."""

import os
import tempfile
import uuid
import warnings
from argparse import ArgumentParser, Namespace

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MessageHub, MMLogger

from mtl_plugins.config.hints import hint_for
from mtl_plugins.config.loading import load_config
from mtl_plugins.doctor import data, running, setting, training
from mtl_plugins.doctor.report import Report, StepFailed
from mtl_plugins.runtime.checkpoints import safe_loading

from .parsers import command
from .train import resume_newest, wants_newest


@command
@safe_loading()
def main(parser: ArgumentParser, args: Namespace) -> int:
    """Examine the config; returns the exit code."""
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

    def run(self) -> None:
        """Examine everything.

        Raises:
            StepFailed: At the first error, which the report has explained.
        """
        report, args = self.report, self.args
        with report.step('versions') as step:
            setting.show_versions(step)
        with report.step('config') as step:
            self.cfg = cfg = load_config(
                args.config, args.cfg_options, args.method, args.precision, data_root=args.data_root, tasks=args.tasks
            )
            setting.show_config(step, cfg, args.config)
            if wants_newest(cfg):
                resume_newest(cfg)
        with tempfile.TemporaryDirectory(prefix='doctor-') as folder, warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'This DataLoader will create')  # none of its workers is started here
            self._examine(cfg, folder)

    def _examine(self, cfg: Config, folder: str) -> None:
        report = self.report
        with report.step('model') as step:
            runner = running.build(step, cfg, folder, report)
            setting.show_model(step, runner.model)
        with report.step('training data') as step:
            loader = running.in_one_process(runner.train_dataloader)
            data.show_dataset(step, loader.dataset, cfg.train_dataloader)
            data.compare_tasks(step, runner.model, loader.dataset)
        if cfg.get('val_dataloader'):
            with report.step('validation data') as step:
                data.show_dataset(step, runner.val_dataloader.dataset, cfg.val_dataloader)
        if cfg.get('test_dataloader'):
            with report.step('test data') as step:
                data.show_dataset(step, runner.test_dataloader.dataset, cfg.test_dataloader)
        with report.step('start') as step:
            running.start(step, runner)
        model, wrapper = runner.model, runner.optim_wrapper
        with report.step('optimizer') as step:
            training.show_optimizer(step, wrapper)
        with report.step('one batch') as step:
            batch = data.take_batch(step, loader)
        with report.step('training step') as step:
            training.run_steps(step, model, wrapper, batch, torch.device(get_device()))
        with report.step('parameters') as step:
            training.show_parameters(step, model, wrapper, batch)
        if cfg.get('val_dataloader'):
            with report.step('validation') as step:
                running.show_validation(step, runner)
