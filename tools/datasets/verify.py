"""`python tools/datasets/verify.py --help`; the same as `python -m mtl_plugins verify`."""

import sys

from mtl_plugins.__main__ import run

if __name__ == '__main__':
    sys.exit(run('verify', sys.argv[1:]))
