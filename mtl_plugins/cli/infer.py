"""Prediction from the command line: ``tools/infer.py`` and ``python -m mtl_plugins infer``."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

from mtl_plugins.inference import MultiTaskInferencer
from mtl_plugins.runtime.checkpoints import safe_loading

from .parsers import command

INCOMPLETE = 1
"""Exit code when inputs were skipped."""


@command
def main(parser: ArgumentParser, args: Namespace) -> int:
    """Predict; returns the exit code."""
    optional = {'mode': args.mode, 'crop_size': args.crop_size, 'stride': args.stride, 'resize': args.resize}
    with safe_loading(args.trust_checkpoint):
        inferencer = MultiTaskInferencer(
            args.config, args.checkpoint, args.device, tasks=args.tasks, cfg_options=args.cfg_options
        )
    result = inferencer(
        args.inputs,
        batch_size=args.batch_size,
        fps=args.fps,
        flip_tta=args.tta,
        panels=args.panels,
        columns=args.columns,
        out_dir=args.out,
        raw=args.raw,
        frames=args.frames,
        keep=False,
        **{name: value for name, value in optional.items() if value is not None},
    )
    _report(result, inferencer.tasks)
    return INCOMPLETE if result['skipped'] else 0


def _report(result: dict[str, Any], tasks: Sequence[str]) -> None:
    print(f'predicted {", ".join(tasks)} of {len(result["sources"])} picture(s):')
    for path in result['outputs']:
        print(f'  {path}')
    if result['skipped']:
        print(f'could not read and skipped {len(result["skipped"])}:', file=sys.stderr)
        for source, reason in result['skipped']:
            print(f'  {source}: {reason}', file=sys.stderr)
