"""``python -m mtl_plugins COMMAND``, or ``mtl-plugins COMMAND``; ``tools/**/*.py`` are these commands too."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from mtl_plugins.cli.parsers import parser_of
from mtl_plugins.cli.streams import forgiving_streams
from mtl_plugins.cli.user_errors import report, wants_traceback
from mtl_plugins.compat import missing_packages, repair_stack
from mtl_plugins.runtime import signals

COMMANDS = {
    'train': 'train a model',
    'test': 'evaluate a checkpoint and draw its predictions',
    'infer': 'predict all tasks for pictures, folders and videos',
    'export': 'write a trained model as ONNX or as a torch.export program',
    'doctor': 'build everything, run one batch, and say what is wrong',
    'demo': 'train on the embedded rooms for a few minutes and show the result',
    'browse': 'draw the images of a dataset with their targets, as training sees them',
    'config': 'print a config as the training would use it',
    'compare': 'train with several methods and seeds, and write one report',
    'baselines': 'train each task alone, as the reference of delta_m',
    'reproduce': 'run and fill the tables of papers',
    'cost': 'parameters and multiply-adds of a model',
    'throughput': 'time, forwards and memory per batch of several methods',
    'group-tasks': 'measure which tasks help each other, and make groups of them',
    'verify': 'check the folder of a dataset',
    'prepare-nyuv2': 'make the folder of NYUD-v2 out of nyu_depth_v2_labeled.mat',
}
"""Command -> what it does; the module of ``mtl_plugins.cli`` with its name (``-`` is ``_``) has its ``main(argv)``."""


@forgiving_streams()
def run(command: str, argv: Sequence[str]) -> int:
    """Run a command with its arguments; returns the exit code.

    An error that the user can mend (:mod:`mtl_plugins.cli.user_errors`) is printed in one line, with exit code 1.
    """
    # OpenMP threads that spin while they wait make training many times slower on a machine that has other work to do.
    # The library reads this once, when torch loads it, so it is settled before anything here imports torch.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    if command in ('throughput', 'doctor'):
        # Torch's profiler, which tells the memory on a CPU, announces each of its steps.
        os.environ.setdefault('KINETO_LOG_LEVEL', '99')
        os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')
    if command in signals.COMMANDS:
        signals.leave_on_signals()
    try:
        # Help and wrong options end here, before anything heavy is imported.
        args = parser_of(command).parse_args(argv)
        if not missing_packages():
            repair_stack()
        code = import_module(f'mtl_plugins.cli.{command.replace("-", "_")}').main(args)
        if sys.stdout is not None:
            sys.stdout.flush()  # here a full disk is still an error
        return code
    except Exception as error:
        if not report(command, error):
            raise
        return 1
    except KeyboardInterrupt:
        if wants_traceback():
            raise
        print(f'\n{command}: interrupted', file=sys.stderr)
        return 130


@forgiving_streams()
def main() -> int:
    """Run the command named by the first argument."""
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in COMMANDS:
        return run(name, sys.argv[2:])
    lines = '\n'.join(f'  {command:10} {text}' for command, text in COMMANDS.items())
    print(f'usage: python -m mtl_plugins COMMAND [options]\n\n{lines}\n\npython -m mtl_plugins COMMAND --help')
    return 0 if name in ('-h', '--help') else 2


if __name__ == '__main__':
    sys.exit(main())
