"""`python tools/analysis/compare_methods.py --help`; the same as `python -m mtl_plugins compare`."""

import sys

from mtl_plugins.__main__ import run

if __name__ == '__main__':
    sys.exit(run('compare', sys.argv[1:]))
