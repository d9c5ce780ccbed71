"""`python tools/demo.py --help`; the same as `python -m mtl_plugins demo`."""

import sys

from mtl_plugins.__main__ import run

if __name__ == '__main__':
    sys.exit(run('demo', sys.argv[1:]))
