"""`python tools/datasets/prepare_nyuv2.py --help`; the same as `python -m mtl_plugins prepare-nyuv2`."""

import sys

from mtl_plugins.__main__ import run

if __name__ == '__main__':
    sys.exit(run('prepare-nyuv2', sys.argv[1:]))
