"""Sizes of images that a backbone can take, settled when a model is built."""

import math

from torch import nn

from mtl_plugins.errors import UserError
from mtl_plugins.models.data_preprocessor import MultiTaskDataPreProcessor

from .inference import InferenceSettings


def fit_sizes(backbone: nn.Module, preprocessor: nn.Module, inference: InferenceSettings) -> None:
    """Have images padded to what ``backbone`` takes, and refuse settings that it cannot take.

    Args:
        backbone: Tells by ``size_divisor`` what the sides of an image should be multiples of, by ``fixed_size`` that it
            takes one size only, and by ``check_size`` what it refuses; a backbone without them takes every size.
        preprocessor: One of ours pads; its ``size`` is obeyed, its ``size_divisor`` grows to a multiple of both.
        inference: A window is an image, too.

    Raises:
        ValueError: If ``size`` or a window is none that the backbone takes.
    """
    divisor, fixed = getattr(backbone, 'size_divisor', None), getattr(backbone, 'fixed_size', None)
    check = getattr(backbone, 'check_size', None)
    if isinstance(preprocessor, MultiTaskDataPreProcessor):
        if preprocessor.size is None and fixed is not None:
            preprocessor.size, preprocessor.size_divisor = fixed, None
        elif preprocessor.size is None and divisor is not None:
            divisor = (divisor,) if isinstance(divisor, int) else divisor
            preprocessor.size_divisor = math.lcm(preprocessor.size_divisor or 1, *divisor)
    asked = {
        'model.data_preprocessor.size': getattr(preprocessor, 'size', None),
        'model.test_cfg.crop_size': inference.crop_size if inference.mode == 'slide' else None,
    }
    for place, size in asked.items():
        if check is not None and size is not None:
            try:
                check(size)
            except UserError as error:
                raise UserError(f'{place}={tuple(size)}: {error}') from error
