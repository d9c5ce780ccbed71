"""Taskonomy: layout, decoding, dataset, and check of a folder."""

from .dataset import TaskonomyDataset
from .decoding import CODINGS, decode, encode
from .layout import TASKS, TINY
from .reader import TaskonomyReader

__all__ = ['CODINGS', 'TASKS', 'TINY', 'TaskonomyDataset', 'TaskonomyReader', 'decode', 'encode']
