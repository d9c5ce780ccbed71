"""Leaving out labels on purpose, the same ones for an image every time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from mtl_plugins.errors import UserError
from mtl_plugins.registry import TRANSFORMS
from mtl_plugins.task_specs import get_task_specs
from mtl_plugins.utils.argument_types import Index, Share

from .base import Transform
from .fields import sample_name, target_key

_PARTS = 2
"""Parts of a path that tell an image: folders above differ from machine to machine."""


@TRANSFORMS.register_module()
class RandomLabelSubset(Transform):
    """Keep a random part of each image's labels, to train on data in which no image has them all.

    Whether an image keeps the label of a task is drawn from ``(seed, image, task)`` alone, where the image is its file
    and folder name. So every epoch, a resumed run and every other process see the same labels, and a model of one task
    trains on exactly the labels that a model of all tasks has for it. Put it right behind the loading transform, in
    the training pipeline alone: evaluation should see every label.

    Args:
        tasks: The tasks that are drawn. Others stay as they are. Name all tasks of the dataset here, also where the
            dataset is restricted to some of them later on: ``at_least`` counts these.
        keep: Probability that an image keeps a label: one for all tasks, or task -> probability, where tasks that are
            not named are kept.
        at_least: Number of labels that every image keeps; where fewer are drawn, the next likely ones are added.
        seed: Varies the draw.

    Raises:
        KeyError: If a task is unknown.
        ValueError: If a probability is not within 0..1, there are fewer tasks than ``at_least``, or ``keep`` names a
            task that is not in ``tasks``.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        keep: Share | Mapping[str, Share] = 0.5,
        at_least: Index = 1,
        seed: Index = 0,
    ) -> None:
        self.tasks = tuple(spec.key for spec in get_task_specs(tasks))
        unknown = sorted(set(keep) - set(self.tasks)) if isinstance(keep, Mapping) else []
        if unknown:
            raise UserError(f'RandomLabelSubset: keep names {unknown}, but tasks are {list(self.tasks)}')
        self.keep = dict(keep) if isinstance(keep, Mapping) else dict.fromkeys(self.tasks, keep)
        self.seed = seed
        self.at_least = at_least
        if at_least > len(self.tasks):
            raise UserError(
                f'RandomLabelSubset: at_least must be 0 to {len(self.tasks)}, the number of tasks, but got {at_least}'
            )

    def kept(self, img_path: str) -> frozenset[str]:
        """The tasks out of ``tasks`` whose labels the image keeps, if it has them."""
        name = '/'.join(PurePath(img_path).parts[-_PARTS:])
        draws = {task: self._draw(name, task) for task in self.tasks}
        count = sum(draw < self.keep.get(task, 1.0) for task, draw in draws.items())
        # From the most likely on; those that are drawn stand below 1, and a task of probability 0 comes last.
        order = sorted(self.tasks, key=lambda task: draws[task] / max(self.keep.get(task, 1.0), 1e-12))
        return frozenset(order[: max(count, self.at_least)])

    def remaining(self, img_path: str, present: Sequence[str]) -> tuple[str, ...]:
        """What is left of the tasks ``present`` of an image."""
        kept = self.kept(img_path)
        return tuple(task for task in present if task in kept or task not in self.tasks)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Remove the labels that are not kept.

        Raises:
            ValueError: If the sample has no ``img_path``, which tells images apart.
        """
        if not results.get('img_path'):
            raise UserError(
                f"RandomLabelSubset: {sample_name(results)} has no 'img_path', by which images are told apart"
            )
        kept = self.kept(str(results['img_path']))
        gone = {target_key(task) for task in self.tasks if task not in kept}
        for key in gone & set(results):
            del results[key]
        results['seg_fields'] = [key for key in results.get('seg_fields', ()) if key not in gone]
        return results

    def _draw(self, name: str, task: str) -> float:
        """A number of 0..1 that anyone can reproduce; Python's own hash differs from process to process."""
        digest = hashlib.sha256(os.fsencode(f'{self.seed}\n{task}\n{name}')).digest()
        return int.from_bytes(digest[:7], 'big') / 2**56
