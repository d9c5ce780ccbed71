"""Evaluation from the command line: ``tools/test.py`` and ``python -m mtl_plugins test``."""

import json
import os
from argparse import Namespace
from pathlib import Path

from mmengine.dist import is_main_process

from mtl_plugins.config.cfg_options import ConfigArgumentParser
from mtl_plugins.config.foreign_hooks import draw_into, draws_by_itself
from mtl_plugins.config.loading import load_config, set_tta
from mtl_plugins.config.refusals import refusals_of
from mtl_plugins.config.runner import build_runner
from mtl_plugins.config.start import check_loop
from mtl_plugins.errors import UserFileNotFoundError
from mtl_plugins.runtime.checkpoints import safe_loading, write_atomically
from mtl_plugins.runtime.console import keep_console_short
from mtl_plugins.runtime.hooks.metrics_file import as_number
from mtl_plugins.runtime.work_folder import naming

from .parsers import command


@command
def main(parser: ConfigArgumentParser, args: Namespace) -> int:
    """Evaluate; returns the exit code."""
    parser.refuse_idle(args, args.show_dir, '--show-dir', '--num-panels')
    if not args.verbose:
        keep_console_short()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(args.config, args.cfg_options, work_dir=args.work_dir, data_root=args.data_root, tasks=args.tasks)
    if not Path(args.checkpoint).is_file():
        raise UserFileNotFoundError(f'checkpoint {args.checkpoint} not found')
    for name in ('val', 'test'):
        check_loop(cfg, name)
    if args.tta:
        set_tta(cfg)
    cfg.launcher = args.launcher
    cfg.load_from, cfg.resume = args.checkpoint, False
    hooks = [
        hook for hook in cfg.get('custom_hooks') or [] if not str(hook.get('type')).endswith('PredictionPanelHook')
    ]
    if args.show_dir and draws_by_itself(cfg):
        draw_into(cfg, str(args.show_dir))
    elif args.show_dir:
        hooks.append(
            dict(type='mtl_plugins.PredictionPanelHook', num_panels=args.num_panels, show_dir=str(args.show_dir))
        )
    cfg.custom_hooks = hooks
    with safe_loading(args.trust_checkpoint), naming(cfg.work_dir):
        runner = build_runner(cfg)
        with refusals_of(cfg):
            metrics = runner.test()
    if args.out and is_main_process():
        text = json.dumps({name: as_number(value) for name, value in metrics.items()}, indent=2) + '\n'
        with naming(args.out, '--out'):
            write_atomically(text.encode(), args.out)
    return 0
