"""Loading of samples that a dataset has rendered into its cache."""

from typing import Any

import numpy as np

from mtl_plugins.errors import UserKeyError
from mtl_plugins.registry import TRANSFORMS
from mtl_plugins.task_specs import get_task_spec

from .base import Transform
from .fields import sample_name, target_key

REQUIRED = ('sample_cache', 'cache_index', 'tasks')


@TRANSFORMS.register_module()
class LoadCachedSample(Transform):
    """Read the image and the targets of one sample from its dataset's :class:`~mtl_plugins.datasets.cache.SampleCache`.

    The dataset hands over ``sample_cache``, ``cache_index`` and ``tasks`` (the tasks to read; no others are read from
    disk). The image, stored as RGB, becomes BGR as everywhere in the pipeline; floats of any width become ``float32``.

    Raises:
        KeyError: If the dataset hands over none of these, that is, if it is not one of a cached kind.
        CacheError: If the file is missing or damaged.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``img``, one ``gt_<task>`` per task, ``seg_fields``, ``img_shape`` and ``ori_shape``."""
        missing = [key for key in REQUIRED if key not in results]
        if missing:
            raise UserKeyError(
                f'LoadCachedSample: {sample_name(results)} comes without {", ".join(missing)}; this transform works '
                'with cached datasets (mtl_plugins.RoomsDataset, mtl_plugins.PhotosDataset) only'
            )
        # The cache object is not passed on: it would travel to the main process with every sample.
        cache, tasks = results.pop('sample_cache'), results['tasks']
        arrays = cache.load(results['cache_index'], ('img', *map(target_key, tasks)))
        results['img'] = np.ascontiguousarray(arrays['img'][..., ::-1])
        for task in tasks:
            key, spec = target_key(task), get_task_spec(task)
            results[key] = arrays[key] if spec.is_categorical else arrays[key].astype(np.float32, copy=False)
        results['seg_fields'] = [target_key(task) for task in tasks]
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results
