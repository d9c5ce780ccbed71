"""`python tools/datasets/browse.py --help`; the same as `python -m mtl_plugins browse`."""

import sys

from mtl_plugins.__main__ import run

if __name__ == '__main__':
    sys.exit(run('browse', sys.argv[1:]))
