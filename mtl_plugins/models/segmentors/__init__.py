"""Segmentors."""

from .inference import InferenceSettings
from .multi_task_segmentor import MultiTaskSegmentor

__all__ = ['InferenceSettings', 'MultiTaskSegmentor']
