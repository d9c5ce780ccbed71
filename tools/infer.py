"""`python tools/infer.py --help`; the same as `python -m mtl_plugins infer`."""

import sys

from mtl_plugins.__main__ import run

if __name__ == '__main__':
    sys.exit(run('infer', sys.argv[1:]))
