"""Measuring training steps: times of several in turn, peak memory, and batches that need no data."""

from .memory import peak_memory
from .synthetic import image_size, random_batch, synthetic_batch, synthetic_target
from .timing import Spread, Times, TrainingStep, ratio, time_systems

__all__ = [
    'Spread',
    'Times',
    'TrainingStep',
    'image_size',
    'peak_memory',
    'random_batch',
    'ratio',
    'synthetic_batch',
    'synthetic_target',
    'time_systems',
]
