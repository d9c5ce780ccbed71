"""`python tools/analysis/single_task_baselines.py --help`: what delta_m is measured against."""

import sys

from mtl_plugins.apis.baselines import main

if __name__ == '__main__':
    sys.exit(main())
