"""`python tools/demo.py --help`: what `make demo` runs."""

import sys

from mtl_plugins.apis.demo import main

if __name__ == '__main__':
    sys.exit(main())
