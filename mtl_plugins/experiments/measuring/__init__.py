"""Measuring training steps: times of several in turn, peak memory, and batches that need no data."""

from mtl_plugins.methods.exports import on_demand

__getattr__, __all__ = on_demand(
    __name__,
    {
        'memory': 'peak_memory',
        'synthetic': 'image_size random_batch synthetic_batch synthetic_target',
        'timing': 'Spread Times TrainingStep ratio time_systems',
    },
)
