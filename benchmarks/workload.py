"""The model, the batch and the groups that the step benchmarks run on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

import mtl_plugins.models  # noqa: F401 - registers the model
from mtl_plugins.experiments.measuring import random_batch, synthetic_target
from mtl_plugins.registry import MODELS

# The tasks of Rooms; the first four are those of NYUD-v2.
TASKS = (
    'semseg', 'depth', 'normals', 'edge', 'sal', 'human_parts', 'reshading', 'principal_curvature', 'edge_texture',
    'keypoints2d', 'edge_occlusion',
)  # fmt: skip
NUM_CLASSES = dict(semseg=12, human_parts=7)


@dataclass(frozen=True)
class Workload:
    """What is trained on what.

    Args:
        num_tasks: K, the first so many of :data:`TASKS`.
        image_size: Side of the square images, a multiple of the patch size.
        batch_size: Images per batch.
        device: ``'cpu'`` or ``'cuda'``.
        backbone: Settings of :class:`mtl_plugins.models.TimmViT` other than the defaults, which are ViT-Tiny/16; with
            ``type``, the whole config of another backbone.

    Raises:
        ValueError: If ``num_tasks`` is not between 1 and the number of tasks.
    """

    num_tasks: int
    image_size: int = 128
    batch_size: int = 4
    device: str = 'cpu'
    backbone: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.num_tasks <= len(TASKS):
            raise ValueError(f'the number of tasks must lie between 1 and {len(TASKS)}, but got {self.num_tasks}')

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task keys."""
        return TASKS[: self.num_tasks]

    def group_counts(self) -> tuple[int, ...]:
        """The numbers of groups M that are measured: 1, 2 and K."""
        return tuple(sorted({1, min(2, self.num_tasks), self.num_tasks}))

    def groups(self, num_groups: int) -> list[list[str]]:
        """The tasks dealt out to ``num_groups`` groups."""
        return [list(self.tasks[start::num_groups]) for start in range(num_groups)]

    def build_model(self, seed: int = 0) -> nn.Module:
        """A model in train mode whose weights depend on ``seed`` alone."""
        heads = {
            task: dict(num_classes=NUM_CLASSES[task]) if task in NUM_CLASSES else {} for task in self.tasks
        }  # fmt: skip
        torch.manual_seed(seed)
        model = MODELS.build(
            dict(
                type='mtl_plugins.MultiTaskSegmentor',
                data_preprocessor=dict(type='mtl_plugins.MultiTaskDataPreProcessor'),
                backbone=self.backbone
                if 'type' in self.backbone
                else dict(type='mtl_plugins.TimmViT', img_size=self.image_size, **self.backbone),
                heads=heads,
            )
        )
        return model.to(self.device).train()

    def make_batch(self, seed: int = 0) -> dict[str, Any]:
        """Random images and targets as the data loader hands them out, but already on the device."""
        size = (self.image_size, self.image_size)

        def labels(generator: torch.Generator) -> dict[str, torch.Tensor]:
            classes = ((task, NUM_CLASSES.get(task, 2)) for task in self.tasks)
            return {f'gt_{task}': synthetic_target(task, size, generator, number) for task, number in classes}

        return random_batch(labels, size, self.batch_size, self.device, seed)
