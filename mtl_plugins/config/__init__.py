"""From a config file to a Runner: reading, options over it, and what is refused before anything is built."""

from .loading import load_config, set_method, set_tasks
from .runner import build_runner

__all__ = ['build_runner', 'load_config', 'set_method', 'set_tasks']
