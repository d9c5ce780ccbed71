"""mtl_plugins: multi-task optimization for dense prediction, as plugins for the OpenMMLab world."""

import sys

from .compat import check_stack, let_bases_resolve
from .moved import let_old_names_work
from .runtime.signals import leave_on_signals, may_be_sent_again
from .version import __version__

if may_be_sent_again(sys.orig_argv):
    leave_on_signals()  # before the imports, which take a while
let_old_names_work()
if check_stack():
    let_bases_resolve()

__all__ = ['__version__']
