"""``python -m mtl_plugins train|test|doctor``."""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = {
    'train': 'train a model',
    'test': 'evaluate a checkpoint and draw its predictions',
    'doctor': 'build everything, run one batch, and say what is wrong',
}


def main() -> int:
    """Run the command named by the first argument."""
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name not in COMMANDS:
        lines = '\n'.join(f'  {command:8} {text}' for command, text in COMMANDS.items())
        print(f'usage: python -m mtl_plugins COMMAND [options]\n\n{lines}\n\npython -m mtl_plugins COMMAND --help')
        return 0 if name in ('-h', '--help') else 2
    return import_module(f'mtl_plugins.apis.{name}').main(sys.argv[2:])


if __name__ == '__main__':
    sys.exit(main())
