"""Predictions for pictures and videos of one's own."""

from .inferencer import MultiTaskInferencer
from .loading import find_config, load_model

__all__ = ['MultiTaskInferencer', 'find_config', 'load_model']
