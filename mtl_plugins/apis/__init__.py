"""What users start: training, testing, inference, export, checking a set-up."""

from .configs import load_config, set_method, set_tasks
from .inference import MultiTaskInferencer
from .train import build_runner

__all__ = ['MultiTaskInferencer', 'build_runner', 'load_config', 'set_method', 'set_tasks']
