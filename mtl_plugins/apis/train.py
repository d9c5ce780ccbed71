"""Training from the command line: ``tools/train.py`` and ``python -m mtl_plugins train``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

from mtl_plugins.compat import prepare_cpu_ddp
from mtl_plugins.engine.checkpoints import find_newest_loadable, register_safe_loaders, safe_loading
from mtl_plugins.engine.hooks import ClassWeightHook, LoadReportHook, PreemptionHook, TargetCheckHook
from mtl_plugins.engine.work_folder import claim, naming
from mtl_plugins.errors import UserError, UserFileNotFoundError
from mtl_plugins.methods.catalogue import format_catalogue
from mtl_plugins.registry import RUNNERS
from mtl_plugins.utils.cfg_options import ConfigArgumentParser

from .arguments import (
    add_data_root,
    add_launcher,
    add_precision,
    add_tasks,
    add_trust,
    folder_to_write,
    names,
    seed,
)
from .configs import load_config
from .foreign_hooks import save_plain_checkpoints
from .inspection.setting import check_start
from .log_services import SERVICES, log_to
from .missing_packages import refuse_missing_packages
from .pretrained_weights import fetching
from .refusals import refusals_of
from .sync_bn import refuse_sync_bn_on_cpu
from .task_checks import TaskCheckHook

_RANKS = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')
EPILOG = (
    'exit codes: 0 finished, 1 error (also: finished, but the last state or the metrics could not be saved), 2 wrong '
    'arguments, 75 stopped by SIGTERM or SIGUSR1 after saving what there was (start again with --resume)'
)


def build_parser() -> ConfigArgumentParser:
    """The options of ``train``."""
    parser = ConfigArgumentParser(prog='train', description='Train a multi-task model.', epilog=EPILOG)
    parser.add_argument('config', nargs='?', help='config file')
    parser.add_argument('--method', metavar='KEY', help='swap the multi-task method; see --list-methods')
    parser.add_argument('--list-methods', action='store_true', help='print all methods and what they cost, and stop')
    add_tasks(parser)
    add_precision(parser)
    resume = parser.add_mutually_exclusive_group()
    resume.add_argument(
        '--resume', action='store_true', help='go on from the newest loadable checkpoint of the work dir, if any'
    )
    resume.add_argument('--resume-from', metavar='PATH', help='go on from this checkpoint')
    parser.add_argument(
        '--work-dir', type=folder_to_write, metavar='DIR', help='folder of the run (work_dirs/<config name>)'
    )
    parser.add_argument('--seed', type=seed, metavar='N', help='random seed')
    parser.add_argument(
        '--log-to', metavar='A,B', type=names, default=[], help=f'also log to these services: {", ".join(SERVICES)}'
    )
    add_data_root(parser)
    add_trust(parser)
    add_launcher(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse ``argv`` and train; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.list_methods:
        print(format_catalogue())
        return 0
    if args.config is None:
        parser.error('a config file is needed, for example configs/rooms/stgu_vit-micro_8b-2k_rooms-96.py')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(
        args.config,
        args.cfg_options,
        args.method,
        args.precision,
        args.seed,
        args.work_dir,
        args.data_root,
        args.tasks,
    )
    log_to(cfg, args.log_to)
    cfg.launcher = args.launcher
    with safe_loading(args.trust_checkpoint), claim_work_dir(cfg):
        if args.resume_from:
            cfg.resume, cfg.load_from = True, args.resume_from
            if '://' not in args.resume_from and not Path(args.resume_from).is_file():
                raise UserFileNotFoundError(f'--resume-from {args.resume_from}: there is no such file')
        elif args.resume or wants_newest(cfg):
            resume_newest(cfg)
        runner = build_runner(cfg)
        if not any(isinstance(hook, PreemptionHook) for hook in runner.hooks):
            runner.register_hook(PreemptionHook())
        run(runner)
    return 0


def build_runner(cfg: Config) -> Runner:
    """The Runner of a config, with what must be settled before it.

    It loads checkpoints without running code: from here on the loaders of this process are the safe ones, see
    :func:`mtl_plugins.engine.checkpoints.safe_loading`.

    Raises:
        ValueError: If the config asks for ``compile``, which multi-task steps cannot be, or for SyncBatchNorm on a
            machine without CUDA.
    """
    if cfg.get('compile'):
        raise UserError(
            'cfg.compile compiles the whole train_step, which makes several forwards and backwards in multi-task '
            'training. Remove it, and compile the backbone instead (torch.compile(model.backbone))'
        )
    check_start(cfg)
    register_safe_loaders()
    refuse_missing_packages(cfg.get('model'))
    refuse_sync_bn_on_cpu(cfg)
    prepare_cpu_ddp(cfg, cfg.get('launcher', 'none'))
    save_plain_checkpoints(cfg)
    if (cfg.get('default_hooks') or {}).get('target_check'):  # perhaps by an option alone, in any config
        cfg.default_hooks.target_check.setdefault('type', 'mtl_plugins.TargetCheckHook')
    with refusals_of(cfg), fetching(cfg):
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    for kind in (LoadReportHook, TargetCheckHook, TaskCheckHook, ClassWeightHook):
        if not any(isinstance(hook, kind) for hook in runner.hooks):
            runner.register_hook(kind())
    return runner


def run(runner: Runner) -> None:
    """Train; what the config cannot have, or cannot fetch, is one sentence."""
    with refusals_of(runner.cfg), fetching(runner.cfg):
        runner.train()


def claim_work_dir(cfg: Config) -> AbstractContextManager[None]:
    """Hold the work dir of a config while the training lasts; the first process of a job does.

    Raises:
        FolderInUseError: If another process trains there.
        UnwritableFolderError: If nothing can be written there.
    """
    rank = os.environ.get(_RANKS.get(cfg.get('launcher', 'none'), ''), '0')
    return claim(cfg.work_dir) if rank == '0' else naming(cfg.work_dir)


def wants_newest(cfg: Config) -> bool:
    """Whether a config resumes without naming a file."""
    return cfg.get('resume') is True and not cfg.get('load_from')


def resume_newest(cfg: Config) -> None:
    """Set the config to go on from the newest loadable checkpoint of its work dir; without any, it starts anew.

    Raises:
        NoLoadableCheckpointError: If there are checkpoints, but none that can be resumed from.
    """
    checkpoint = find_newest_loadable(cfg.work_dir)
    if checkpoint is None:
        print_log(f'--resume: no loadable checkpoint in {cfg.work_dir}; training starts from the beginning', 'current')
        cfg.resume = False
        return
    cfg.resume, cfg.load_from = True, checkpoint
