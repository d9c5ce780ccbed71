"""`python tools/analysis/compare_methods.py --help`: several methods and seeds, one report."""

import sys

from mtl_plugins.apis.compare import main

if __name__ == '__main__':
    sys.exit(main())
