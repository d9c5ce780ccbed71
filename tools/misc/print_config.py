"""`python tools/misc/print_config.py --help`; the same as `python -m mtl_plugins config`."""

import sys

from mtl_plugins.__main__ import run

if __name__ == '__main__':
    sys.exit(run('config', sys.argv[1:]))
