"""`python tools/train.py --help`; the same as `python -m mtl_plugins train`."""

import sys

from mtl_plugins.apis.train import main

if __name__ == '__main__':
    sys.exit(main())
