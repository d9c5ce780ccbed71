"""What users start: training, testing, checking a set-up."""

from .configs import load_config, set_method, set_tasks
from .train import build_runner

__all__ = ['build_runner', 'load_config', 'set_method', 'set_tasks']
