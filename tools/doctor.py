"""`python tools/doctor.py --help`; the same as `python -m mtl_plugins doctor`."""

import sys

from mtl_plugins.apis.doctor import main

if __name__ == '__main__':
    sys.exit(main())
