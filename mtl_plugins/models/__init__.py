"""Models: backbones, decoders, heads, losses and the segmentor that joins them."""

from .backbones import TimmBackbone, TimmViT
from .data_preprocessor import MultiTaskDataPreProcessor
from .decoders import ConcatDecoder, InvPTDecoder, MTINetDecoder, PerTaskDecoder, PyramidDecoder, TaskFeatures
from .heads import LinearHead, TaskHead
from .losses import (
    BalancedCrossEntropyLoss,
    MaskedBCELoss,
    MaskedCrossEntropyLoss,
    MaskedL1Loss,
    MaskedLoss,
    MaskedMSELoss,
    NormalsCosineLoss,
    NormalsL1Loss,
    valid_mask,
)
from .segmentors import InferenceSettings, MultiTaskSegmentor

__all__ = [
    'BalancedCrossEntropyLoss', 'ConcatDecoder', 'InferenceSettings', 'InvPTDecoder', 'LinearHead',
    'MTINetDecoder', 'MaskedBCELoss', 'MaskedCrossEntropyLoss', 'MaskedL1Loss', 'MaskedLoss', 'MaskedMSELoss',
    'MultiTaskDataPreProcessor', 'MultiTaskSegmentor', 'NormalsCosineLoss', 'NormalsL1Loss', 'PerTaskDecoder',
    'PyramidDecoder', 'TaskFeatures', 'TaskHead', 'TimmBackbone', 'TimmViT', 'valid_mask',
]  # fmt: skip
