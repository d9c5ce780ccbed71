"""`python tools/export.py --help`; the same as `python -m mtl_plugins export`."""

import sys

from mtl_plugins.__main__ import run

if __name__ == '__main__':
    sys.exit(run('export', sys.argv[1:]))
