"""Decoders: what stands between the maps of the backbone and the heads of the tasks."""

from .base import PerTaskDecoder, TaskFeatures
from .concat import ConcatDecoder
from .invpt import InvPTDecoder

__all__ = ['ConcatDecoder', 'InvPTDecoder', 'PerTaskDecoder', 'TaskFeatures']
