"""`python tools/analysis/reproduce.py --help`; the same as `python -m mtl_plugins reproduce`."""

import sys

from mtl_plugins.__main__ import run

if __name__ == '__main__':
    sys.exit(run('reproduce', sys.argv[1:]))
