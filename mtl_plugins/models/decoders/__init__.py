"""Decoders: what stands between the maps of the backbone and the heads of the tasks."""

from .base import PerTaskDecoder, TaskFeatures
from .concat import ConcatDecoder

__all__ = ['ConcatDecoder', 'PerTaskDecoder', 'TaskFeatures']
