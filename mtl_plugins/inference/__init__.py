"""Predictions for pictures and videos of one's own."""

from .inferencer import MultiTaskInferencer

__all__ = ['MultiTaskInferencer']
