"""Check, before anything is installed, that this machine can run mtl_plugins; needs nothing but Python.

Usage: python tools/misc/check_system.py
"""

import ctypes
import importlib.util
import sys

PYTHON = ((3, 11), (3, 12))
# What the wheels of OpenCV load from the system, which pip cannot install.
LIBRARIES = ('libGL.so.1', 'libglib-2.0.so.0')


def python_problem(version=sys.version_info[:2]):
    """The message about an unsuitable Python, or None."""
    oldest, newest = PYTHON
    if oldest <= tuple(version) <= newest:
        return None
    found, wanted = '{}.{}'.format(*version), '{}.{} to {}.{}'.format(*oldest, *newest)
    return (
        f'mtl_plugins needs Python {wanted}, but {sys.executable} is Python {found}.\n'
        'Install a suitable one, or name it:  make demo PYTHON=/path/to/python3.12'
    )


def venv_problem():
    """The message about a Python without the means to make an environment, or None."""
    inside = sys.prefix != sys.base_prefix
    if inside or (importlib.util.find_spec('venv') and importlib.util.find_spec('ensurepip')):
        return None
    return (
        f'{sys.executable} cannot make a virtual environment: the module venv or ensurepip is missing.\n'
        '  Debian, Ubuntu:  sudo apt-get install python3-venv'
    )


def missing_libraries(names=LIBRARIES):
    """Those of the shared libraries that cannot be loaded."""
    missing = []
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    return missing


def library_problem(platform=sys.platform, names=LIBRARIES):
    """The message about absent system libraries, or None; only Linux wheels of OpenCV need them."""
    missing = missing_libraries(names) if platform.startswith('linux') else []
    if not missing:
        return None
    return (
        f'OpenCV needs the system libraries {" and ".join(missing)}, which are not installed.\n'
        '  Debian, Ubuntu:  sudo apt-get install libgl1 libglib2.0-0\n'
        '  Fedora, RHEL:    sudo dnf install mesa-libGL glib2\n'
        '  Arch:            sudo pacman -S libglvnd glib2'
    )


def main():
    problems = [problem for problem in (python_problem(), venv_problem(), library_problem()) if problem]
    if problems:
        print('\n\n'.join(problems), file=sys.stderr)
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
