"""`python tools/analysis/single_task_baselines.py --help`; the same as `python -m mtl_plugins baselines`."""

import sys

from mtl_plugins.__main__ import run

if __name__ == '__main__':
    sys.exit(run('baselines', sys.argv[1:]))
