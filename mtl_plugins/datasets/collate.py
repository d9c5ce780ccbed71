"""From samples to a batch, in the worker that has loaded them."""

from collections.abc import Sequence
from typing import Any

from mmengine.dataset import pseudo_collate
from torch import Tensor

from mtl_plugins.registry import FUNCTIONS
from mtl_plugins.structures.batches import TARGETS, alike_targets, stacked


@FUNCTIONS.register_module()
def collate_targets(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """MMEngine's ``pseudo_collate``, with images and each task's targets in one tensor where they are alike.

    ``pin_memory`` then pins them, which it cannot do for data samples, and
    :class:`~mtl_plugins.models.MultiTaskDataPreProcessor` copies one tensor per task without waiting, instead of one
    per task and image. The data samples hold the same memory, for models that take their targets from there.
    """
    batch = pseudo_collate(samples)
    if not isinstance(batch, dict) or not {'inputs', 'data_samples'} <= batch.keys():
        return batch
    images = batch['inputs']
    if all(isinstance(image, Tensor) and image.shape == images[0].shape for image in images):
        batch['inputs'] = stacked(images)
    batch[TARGETS] = {key: stacked(parts) for key, parts in alike_targets(batch['data_samples']).items()}
    for key, whole in batch[TARGETS].items():
        for sample, target in zip(batch['data_samples'], whole):
            sample.get(key).data = target
    return batch
