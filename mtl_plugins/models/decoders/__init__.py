"""Decoders: what stands between the maps of the backbone and the heads of the tasks."""

from .base import PerTaskDecoder, TaskFeatures
from .concat import ConcatDecoder
from .invpt import InvPTDecoder
from .mti_net import MTINetDecoder
from .pyramid import PyramidDecoder

__all__ = ['ConcatDecoder', 'InvPTDecoder', 'MTINetDecoder', 'PerTaskDecoder', 'PyramidDecoder', 'TaskFeatures']
