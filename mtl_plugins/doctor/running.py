"""A run as training would have it: built and loaded by MMEngine's Runner, and stopped before its first iteration."""

import logging
import traceback
import uuid
from typing import NoReturn

import torch
from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.registry import VISUALIZERS
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mtl_plugins.config.refusals import refusals_of
from mtl_plugins.config.runner import build_runner, run
from mtl_plugins.config.start import check_start
from mtl_plugins.config.task_checks import check_named_metrics, computed_metrics, named_metrics
from mtl_plugins.config.unavailable import sync_bn_places
from mtl_plugins.runtime.hooks import DueValidationHook, PreemptionHook, RichProgressHook, SafeCheckpointHook

from .report import Report, Step

_MESSENGERS = (__name__, 'logging', 'mmengine.logging', 'mtl_plugins.compat')
_OF_A_RUN_THAT_GOES_ON = (PreemptionHook, RichProgressHook, DueValidationHook)


class _Ready(BaseException):
    """Raised where the first iteration would begin."""


class _Notes(logging.Handler):
    """Turns what a run warns of into notes of the step that is under way."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.WARNING)
        self.report = report

    def emit(self, record: logging.LogRecord) -> None:
        """Note it; what MMEngine's own code warns of is about that code, not about this run."""
        modules = (frame.f_globals.get('__name__', '') for frame, _ in traceback.walk_stack(None))
        speaker = next(name for name in modules if not name.startswith(_MESSENGERS))
        if not speaker.startswith('mmengine.'):
            self.report.note(record.getMessage())


def build(step: Step, cfg: Config, folder: str, report: Report) -> Runner:
    """The Runner of a config, which writes into ``folder`` alone and connects to no log service.

    Args:
        step: What is found goes here.
        cfg: Changed in place.
        folder: An empty folder.
        report: Its steps get the warnings of the run.
    """
    check_start(cfg)
    cfg.update(work_dir=folder, experiment_name=f'doctor-{uuid.uuid4().hex[:8]}', log_level='WARNING')
    if cfg.get('visualizer'):
        with refusals_of(cfg):  # its backends connect when they get their first entry, not when they are built
            VISUALIZERS.build({**cfg.visualizer.to_dict(), 'name': uuid.uuid4().hex, 'save_dir': folder})
        cfg.visualizer.update(vis_backends=[], name=uuid.uuid4().hex)
    if not torch.cuda.is_available():
        for place in sync_bn_places(cfg.get('model')):
            cfg.merge_from_dict({f'{place}.type': 'BN'})
            step.note(f'{place}: SyncBatchNorm needs CUDA, which is not here; examined as BatchNorm')
    runner = build_runner(cfg)
    for handler in runner.logger.handlers:
        handler.close()
    runner.logger.handlers[:] = [_Notes(report)]
    for hook in runner.hooks:
        if getattr(hook, 'out_dir', None) is not None:
            hook.out_dir = folder
    return runner


def start(step: Step, runner: Runner) -> None:
    """All that training does before its first iteration: optimizer, schedules, first weights or state, hooks."""

    def ready() -> NoReturn:
        runner._hooks = [hook for hook in runner.hooks if not isinstance(hook, _OF_A_RUN_THAT_GOES_ON)]
        runner.call_hook('before_train')
        raise _Ready

    runner.train_loop.run = ready
    try:
        run(runner)
    except _Ready:
        pass
    finally:
        for hook in runner.hooks:
            if isinstance(hook, SafeCheckpointHook):
                hook.after_run(runner)  # frees the folder
    verb = 'goes on' if runner._resume else 'starts'
    step.summary = f'{verb} from {runner._load_from}' if runner._has_loaded else 'from the first weights of the model'
    step.say(f'{verb} after iteration {runner.iter} of {runner.max_iters}')
    step.say(f'hooks: {", ".join(type(hook).__name__ for hook in runner.hooks)}')


def in_one_process(loader: DataLoader) -> DataLoader:
    """The same loader without worker processes, so that errors keep their place; in place."""
    loader.num_workers = loader.timeout = 0
    return loader


def show_validation(step: Step, runner: Runner) -> None:
    """Predict one batch and hand it to the metrics.

    Raises:
        UserError: If a hook waits for a metric that these do not compute.
    """
    model, judge = runner.model, runner.val_evaluator
    model.eval()
    batch = next(iter(in_one_process(runner.val_dataloader)))
    with torch.no_grad():
        outputs = model.val_step(batch)
    judge.process(data_samples=outputs, data_batch=batch)
    names = ', '.join(type(metric).__name__ for metric in judge.metrics)
    step.summary = f'{len(outputs)} images predicted and measured by {names}'
    if any(named_metrics(runner)) and not any(isinstance(metric, DumpResults) for metric in judge.metrics):
        check_named_metrics(runner, dict.fromkeys(judge.evaluate(len(outputs))) | (computed_metrics(judge) or {}))
    baselines = getattr(judge, 'baselines', None)
    if hasattr(judge, 'baselines'):
        step.say(f'delta_m against {len(baselines)} single-task baselines' if baselines else 'no baselines, no delta_m')
    missing = [task for task in getattr(judge, 'tasks', ()) if baselines and task not in baselines]
    if missing:
        step.note(f'no baseline for {", ".join(missing)}: delta_m will be nan')
