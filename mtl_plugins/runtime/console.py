"""What a command shows of the log of its run; the log file holds all of it."""

import functools
import logging
import warnings

from mmengine.logging import MMLogger

_REPLACED = ('Distributed training is not used, all SyncBatchNorm', 'Checkpoints will be saved to')
_NOISE = ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias')
"""Deprecations inside MMEngine, of what MMEngine itself calls."""
_WARNINGS = ('Default ``avg_non_ignore`` is False', 'The draw is False')
"""What mmseg says about its own defaults whenever they are used."""


def keep_console_short() -> None:
    """Leave out of the console what MMEngine's Runner dumps before a run: environment, config and the order of hooks.

    Of the whole process, from here on; MMEngine has no place where a handler could be given. Files get all of it.
    """
    for text in _WARNINGS:
        warnings.filterwarnings('ignore', text, UserWarning)
    original = MMLogger.__init__
    if hasattr(original, '__wrapped__'):  # done before
        return

    @functools.wraps(original)
    def __init__(self, *args, **kwargs):
        original(self, *args, **kwargs)
        for handler in self.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_is_for_the_console)

    MMLogger.__init__ = __init__


def _is_for_the_console(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    if record.levelno >= logging.WARNING:
        return not text.startswith(_NOISE)
    dumped = record.module == 'runner' and '\n' in text.strip()
    return not dumped and not text.startswith(_REPLACED)
