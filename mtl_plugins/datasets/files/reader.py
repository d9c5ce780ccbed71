"""How a dataset's files become arrays; one small picklable object per dataset."""

from typing import Any

import numpy as np

from .reading import read_rgb


class SampleReader:
    """Reads the image and the targets of one sample.

    A dataset derives its own, with the settings that decoding needs as attributes. It travels to data loader workers,
    so it must be picklable and small, and reading must not change it.
    """

    def read_image(self, results: dict[str, Any]) -> np.ndarray:
        """The image of a sample: ``(H, W, 3)`` uint8, BGR.

        Args:
            results: The sample's entry of the data list.
        """
        return read_rgb(results['img_path'])

    def read_target(self, task: str, results: dict[str, Any]) -> np.ndarray:
        """The target of a sample in the conventions of :mod:`mtl_plugins.task_specs`.

        Args:
            task: A key of ``results['files']``.
            results: The sample's entry of the data list.

        Returns:
            ``(H, W)`` uint8 for classes and binary maps, else ``(H, W)`` or ``(H, W, C)`` float32.
        """
        raise NotImplementedError(f'{type(self).__name__}.read_target')
