"""Training from the command line: ``tools/train.py`` and ``python -m mtl_plugins train``."""

import os
from argparse import ArgumentParser, Namespace
from contextlib import AbstractContextManager
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log

from mtl_plugins.config.loading import load_config
from mtl_plugins.config.log_services import log_to
from mtl_plugins.config.runner import build_runner, run
from mtl_plugins.engine.catalogue import format_catalogue
from mtl_plugins.errors import UserFileNotFoundError
from mtl_plugins.runtime.checkpoints import find_newest_loadable, safe_loading
from mtl_plugins.runtime.console import keep_console_short
from mtl_plugins.runtime.hooks import PreemptionHook
from mtl_plugins.runtime.work_folder import claim, naming

from .parsers import command

_RANKS = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')


@command
def main(parser: ArgumentParser, args: Namespace) -> int:
    """Train; returns the exit code."""
    if args.list_methods:
        print(format_catalogue())
        return 0
    if args.config is None:
        parser.error('a config file is needed, for example configs/rooms/stgu_vit-micro_8b-2k_rooms-96.py')
    if not args.verbose:
        keep_console_short()
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
