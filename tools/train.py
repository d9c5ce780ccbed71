"""`python tools/train.py --help`; the same as `python -m mtl_plugins train`."""

import sys

from mtl_plugins.__main__ import run

if __name__ == '__main__':
    sys.exit(run('train', sys.argv[1:]))
