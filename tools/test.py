"""`python tools/test.py --help`; the same as `python -m mtl_plugins test`."""

import sys

from mtl_plugins.__main__ import run

if __name__ == '__main__':
    sys.exit(run('test', sys.argv[1:]))
