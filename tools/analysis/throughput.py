"""`python tools/analysis/throughput.py --help`; the same as `python -m mtl_plugins throughput`."""

import sys

from mtl_plugins.__main__ import run

if __name__ == '__main__':
    sys.exit(run('throughput', sys.argv[1:]))
