"""`python tools/analysis/model_cost.py --help`; the same as `python -m mtl_plugins cost`."""

import sys

from mtl_plugins.__main__ import run

if __name__ == '__main__':
    sys.exit(run('cost', sys.argv[1:]))
