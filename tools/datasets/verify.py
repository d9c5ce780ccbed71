"""`python tools/datasets/verify.py --help`: check the folder of a dataset."""

import sys

from mtl_plugins.datasets.verification.cli import main

if __name__ == '__main__':
    sys.exit(main())
