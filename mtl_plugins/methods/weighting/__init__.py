"""Weightings: from the losses to one weight per task."""

from .base import Weighting
from .equal import EqualWeighting

__all__ = ['EqualWeighting', 'Weighting']
