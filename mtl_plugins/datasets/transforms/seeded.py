"""Augmentation that depends on the absolute position in the training stream and on nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose

from mtl_plugins.errors import UserError
from mtl_plugins.registry import TRANSFORMS
from mtl_plugins.utils.argument_types import Index

from .base import Transform
from .fields import sample_name


@contextmanager
def seeded_rng(*entropy: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's CPU generators from ``entropy``; restore their states afterwards.

    torch's CUDA generators are left alone: transforms run on the CPU, and seeding through ``torch.manual_seed`` would
    reset the generator that the model's dropout draws from.
    """
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()  # noqa: NPY002
    words = np.random.SeedSequence(entropy).generate_state(12)
    random.seed(int.from_bytes(words[:4].tobytes(), 'little'))
    np.random.seed(words[4:8])  # noqa: NPY002 - the generator all of mmcv draws from
    torch.default_generator.manual_seed(int.from_bytes(words[8:10].tobytes(), 'little'))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.default_generator.set_state(states[2])


@TRANSFORMS.register_module()
class SeededTransforms(Transform):
    """Run random transforms with all generators seeded from ``(seed, position)``.

    The same sample at the same position of the training stream is augmented alike in every run, whatever the number of
    workers or the iteration at which training was resumed, and the generators outside stay as they were.

    Args:
        transforms: The random transforms, as configs or callables.
        seed: Varies the augmentation between otherwise equal runs.

    Raises:
        ValueError: When applied to a sample whose index carries no position.
    """

    def __init__(self, transforms: Sequence[dict | Callable[[dict], dict | None]], seed: Index = 0) -> None:
        self.transforms = Compose(transforms)
        self.seed = seed

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Apply the transforms to one sample."""
        position = getattr(results.get('sample_idx'), 'position', None)
        if position is None:
            raise UserError(
                f'SeededTransforms: {sample_name(results)} has no position in the training stream; set '
                "sampler=dict(type='mtl_plugins.AbsoluteSampler') in train_dataloader (dataset wrappers must pass its "
                'indices on), or take the transforms out of SeededTransforms'
            )
        with seeded_rng(self.seed, position):
            return self.transforms(results)
