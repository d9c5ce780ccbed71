"""The imports of a training, for the process that trainings are forked from; nothing else imports this module."""

import contextlib
import io
import os
from importlib import import_module

with contextlib.suppress(OSError):
    os.setsid()  # signals for the group of the command are not for this process
# What cannot be imported here says so in the trainings.
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    for _name in ('mtl_plugins.cli.train', 'mtl_plugins.visualization', 'mmseg.models', 'yapf.yapflib.yapf_api'):
        with contextlib.suppress(Exception):
            import_module(_name)
