"""`python tools/analysis/group_tasks.py --help`; the same as `python -m mtl_plugins group-tasks`."""

import sys

from mtl_plugins.__main__ import run

if __name__ == '__main__':
    sys.exit(run('group-tasks', sys.argv[1:]))
