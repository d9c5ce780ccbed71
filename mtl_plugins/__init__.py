"""mtl_plugins: multi-task optimization for dense prediction, as plugins for the OpenMMLab world."""

from .compat import check_stack, let_bases_resolve
from .version import __version__

if check_stack():
    let_bases_resolve()

__all__ = ['__version__']
