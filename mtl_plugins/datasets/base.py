"""What MMEngine's datasets take, checked: the base of ours."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.dataset import BaseDataset

from mtl_plugins.errors import UserError, refusing
from mtl_plugins.utils.argument_types import Checked, Index, check_arguments


class CheckedDataset(Checked, BaseDataset):
    """A :class:`mmengine.dataset.BaseDataset` that finds its samples itself: no annotation file, no prefixes of paths.

    Args:
        metainfo: What the dataset tells of its tasks.
        pipeline: Transforms.
        indices: A number takes the first samples (a negative one the last), a list those at these positions.
        serialize_data: Whether the list of samples is one block of memory, which workers share.
        test_mode: Whether a sample that its pipeline leaves out is an error instead of replaced by another.
        lazy_init: Whether the samples are listed at first use only.
        max_refetch: How often a sample that the pipeline leaves out is replaced.
        folder: Folder of the data, MMEngine's ``data_root``.
        **no_effect: What else MMEngine's takes, for which nothing of ours has a use.

    Raises:
        ValueError: If an argument is out of range or without effect, or no sample remains.
        TypeError: If one is of another type.
    """

    def __init__(
        self,
        metainfo: Mapping[str, Any],
        pipeline: Sequence[Any],
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        test_mode: bool = False,
        lazy_init: bool = False,
        max_refetch: Index = 1000,
        folder: str = '',
        **no_effect: Any,
    ) -> None:
        name = type(self).__name__
        unused = {'ann_file', 'data_prefix', 'data_root', 'filter_cfg'}
        if type(self).filter_data is not BaseDataset.filter_data:
            unused -= {'filter_cfg'}
        for key in unused & {*no_effect}:
            if no_effect.pop(key):
                own = [each for each in inspect.signature(type(self)).parameters if each != 'kwargs']
                raise UserError(f'{name}: {key} does not apply; its arguments are {", ".join(own)} and indices')
        with refusing():
            check_arguments(_told, metainfo, f'{name}.metainfo.')
        for task, colours in (metainfo.get('palettes') or {}).items():
            names = (metainfo.get('classes') or {}).get(task, ())
            if len(colours) < len(names):
                raise UserError(
                    f"{name}: task '{task}' has {len(names)} classes, but its palette has only {len(colours)} colours; "
                    f'mtl_plugins.datasets.files.palette({len(names)}) makes as many'
                )
        super().__init__(
            metainfo=metainfo,
            data_root=folder,
            data_prefix={},
            pipeline=list(pipeline),
            indices=indices,
            serialize_data=serialize_data,
            test_mode=test_mode,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
            **no_effect,
        )

    def _get_unserialized_subset(self, indices: int | Sequence[int]) -> list[dict[str, Any]]:
        count, name = len(self.data_list), f'{type(self).__name__}.indices'
        outside = [] if isinstance(indices, int) else [index for index in indices if not -count <= index < count]
        if outside:
            raise UserError(f'{name} must be positions among {count} samples, below {count}, but got {outside[0]}')
        chosen = super()._get_unserialized_subset(indices)
        if not chosen:
            raise UserError(f'{name}={indices!r} chooses no sample of {count}; leave it out for all of them')
        return chosen


def _told(
    tasks: Sequence[str],
    classes: Mapping[str, Sequence[str]] | None,
    palettes: Mapping[str, Sequence[Sequence[int]]] | None,
    channels: Mapping[str, int] | None,
    units: Mapping[str, str] | None,
) -> None:
    """What an entry of ``metainfo`` is, for :func:`check_arguments`."""
