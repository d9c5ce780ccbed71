"""Losses over the labelled pixels of a batch, all with the signature ``loss(pred, target, valid) -> scalar``."""

from .base import MaskedLoss, masked_mean
from .bce import MaskedBCELoss
from .class_weights import ClassWeights, median_frequency
from .cross_entropy import BalancedCrossEntropyLoss, MaskedCrossEntropyLoss
from .normals import NormalsCosineLoss, NormalsL1Loss
from .regression import MaskedL1Loss, MaskedMSELoss
from .validity import valid_mask

__all__ = [
    'BalancedCrossEntropyLoss', 'ClassWeights', 'MaskedBCELoss', 'MaskedCrossEntropyLoss', 'MaskedL1Loss', 'MaskedLoss',
    'MaskedMSELoss', 'NormalsCosineLoss', 'NormalsL1Loss', 'masked_mean', 'median_frequency', 'valid_mask',
]  # fmt: skip
