"""Parts of a training set: one that is held out to choose settings on, and the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from mmengine.dataset import BaseDataset

from mtl_plugins.errors import UserError, UserTypeError, refusing
from mtl_plugins.registry import DATASETS
from mtl_plugins.utils.argument_types import Index, Range, check_arguments


@DATASETS.register_module()
def HoldOut(
    dataset: Mapping[str, Any],
    share: Annotated[float, Range(0, 1, above=True, below=True)],
    held_out: bool,
    seed: Index = 0,
) -> BaseDataset:
    """A part of a dataset: the samples that are held out, or all others.

    Which samples these are depends on ``seed``, ``share`` and the dataset alone, so that two configs that differ in
    ``held_out`` are disjoint and complete. Samples of the same picture (equal ``source``, else ``img_path``) stay
    together.

    Args:
        dataset: Config of a dataset, a subclass of :class:`mmengine.dataset.BaseDataset`.
        share: Share of the samples that is held out, above 0 and below 1.
        held_out: True for that part, False for the rest.
        seed: Seed of the choice.

    Raises:
        UserError: If an argument has no valid value, or one of the parts would be empty.
    """
    with refusing():
        check_arguments(HoldOut, locals(), 'HoldOut.')
    built = DATASETS.build(dataset)
    if not isinstance(built, BaseDataset):
        raise UserTypeError(
            f'HoldOut can divide datasets that are a mmengine.dataset.BaseDataset, which {type(built).__name__} is not'
        )
    sources: dict[Any, list[int]] = {}
    for index in range(len(built)):
        info = built.get_data_info(index)
        sources.setdefault(info.get('source', info.get('img_path', index)), []).append(index)
    groups = list(sources.values())
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen: set[int] = set()
    for place in order[:-1]:  # one picture at least stays
        if chosen and len(chosen) >= round(share * len(built)):
            break
        chosen.update(groups[place])
    if not chosen:
        raise UserError(
            f'{type(built).__name__} has {len(built)} samples of {len(groups)} pictures; to hold out some takes two'
        )
    built.get_subset_([index for index in range(len(built)) if (index in chosen) == held_out])
    return built
