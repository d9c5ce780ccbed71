"""Cross entropy over the labelled pixels, plain and balanced."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl_plugins.errors import UserError
from mtl_plugins.registry import MODELS

from .base import MaskedLoss
from .class_weights import ClassWeights


@MODELS.register_module()
class MaskedCrossEntropyLoss(MaskedLoss):
    """Softmax cross entropy, mean over the labelled pixels.

    ``pred`` are logits ``(N, classes, H, W)``, ``target`` class indices ``(N, 1, H, W)`` of any integer type.

    Args:
        class_weight: Factor on the cross entropy of the pixels of each class: numbers, a ``.json``, ``.npy`` or
            ``.txt`` file of them, or ``'auto'``, the median frequency of the training labels; see
            :class:`~mtl_plugins.models.losses.ClassWeights`. The weighted sum is divided by the number of labelled
            pixels and not by the sum of their weights (as ``torch.nn.CrossEntropyLoss`` does), so that the loss of a
            joint batch stays the mean of its parts.

    Raises:
        UserError: If ``class_weight`` is none of these.

    Example:
        >>> import torch
        >>> from mtl_plugins.models.losses import MaskedCrossEntropyLoss
        >>> valid = torch.tensor([[[True, True, False]]])  # the last of three pixels is not labelled
        >>> MaskedCrossEntropyLoss()(torch.zeros(1, 4, 1, 3), torch.tensor([[[[0, 3, 255]]]]), valid)  # log(4)
        tensor(1.3863)
    """

    def __init__(self, class_weight: Any = None) -> None:
        super().__init__()
        self.class_weight = ClassWeights(class_weight, type(self).__name__)

    def target_channels(self, pred_channels: int) -> int:
        """One index map."""
        return 1

    def elements(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Cross entropy per pixel."""
        labels = target[:, 0].long()
        loss = F.cross_entropy(pred, labels, reduction='none')
        return loss * self.class_weight.tensor(loss)[labels] if self.class_weight else loss


@MODELS.register_module()
class BalancedCrossEntropyLoss(MaskedLoss):
    """Two-class cross entropy with the weights of the batch, as the released STGU program trains saliency.

    With ``w`` = share of negatives among the labelled pixels of the batch, positives count ``w`` and negatives
    ``1 - w``; the weighted sum is divided by the number of labelled pixels, not by the sum of the weights. Since ``w``
    belongs to the batch, the loss of a joint batch is **not** the weighted mean of its parts.

    ``pred`` are logits of two classes ``(N, 2, H, W)`` or of the positive class alone ``(N, 1, H, W)``, ``target`` is 0
    or 1 ``(N, 1, H, W)``. Without labelled pixels the loss is 0.

    One channel and ``average='all'`` make it the loss of the multi-task survey by Vandenhende et al. (2021), balanced
    as in HED (Xie and Tu, 2015).

    Args:
        average: ``'valid'`` divides by the number of labelled pixels, ``'all'`` by the number of all pixels of the
            batch. They differ only where pixels are not labelled.

    Raises:
        ValueError: If ``average`` is neither.
    """

    def __init__(self, average: Literal['valid', 'all'] = 'valid') -> None:
        super().__init__()
        self.average = average

    def target_channels(self, pred_channels: int) -> int:
        """One map of 0 and 1.

        Raises:
            ValueError: If the prediction has more than two channels.
        """
        if pred_channels not in (1, 2):
            raise UserError(
                f'BalancedCrossEntropyLoss takes predictions with 1 or 2 channels, but got {pred_channels}; '
                'set channels=1 or channels=2 in the head'
            )
        return 1

    def elements(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Weighted cross entropy per pixel."""
        # Softmax over two logits is the sigmoid of their difference, so both layouts share one stable formula.
        logit = pred[:, 1] - pred[:, 0] if pred.shape[1] == 2 else pred[:, 0]
        positive = target[:, 0] > 0
        count = valid.sum().to(logit.dtype)
        negatives = (valid & ~positive).sum().to(logit.dtype) / count.clamp_min(1)
        loss = torch.where(positive, negatives * F.softplus(-logit), (1 - negatives) * F.softplus(logit))
        return loss if self.average == 'valid' else loss * (count / valid.numel())
