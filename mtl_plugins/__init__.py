"""mtl_plugins: multi-task optimization for dense prediction, as plugins for the OpenMMLab world."""

from .compat import check_stack, repair_stack
from .version import __version__

if check_stack():
    repair_stack()

__all__ = ['__version__']
