"""`python tools/analysis/model_cost.py --help`: parameters and multiply-adds of a model."""

import sys

from mtl_plugins.apis.model_cost import main

if __name__ == '__main__':
    sys.exit(main())
