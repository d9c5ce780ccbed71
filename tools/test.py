"""`python tools/test.py --help`; the same as `python -m mtl_plugins test`."""

import sys

from mtl_plugins.apis.test import main

if __name__ == '__main__':
    sys.exit(main())
