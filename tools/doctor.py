"""`python tools/doctor.py --help`; the same as `python -m mtl_plugins doctor`."""

import sys

from mtl_plugins.__main__ import run

if __name__ == '__main__':
    sys.exit(run('doctor', sys.argv[1:]))
