"""`python tools/analysis/reproduce.py --help`: the tables of papers, run and filled."""

import sys

from mtl_plugins.apis.reproduce import main

if __name__ == '__main__':
    sys.exit(main())
