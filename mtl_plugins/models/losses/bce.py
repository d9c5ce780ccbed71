"""Binary cross entropy over the labelled pixels."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mtl_plugins.errors import UserError
from mtl_plugins.registry import MODELS
from mtl_plugins.utils.argument_types import Positive

from .base import MaskedLoss
from .class_weights import ClassWeights


@MODELS.register_module()
class MaskedBCELoss(MaskedLoss):
    """Binary cross entropy of logits, mean over the labelled pixels.

    ``scale * (pos_weight * y * -log(p) + (1 - y) * -log(1 - p))`` with ``p = sigmoid(pred)``. An edge loss
    ``e y`` against ``(1 - e) (1 - y)`` is ``pos_weight=e / (1 - e), scale=1 - e``: the released STGU program's 0.95 is
    ``pos_weight=19, scale=0.05``, ATRC's 0.8 on NYUD-v2 is ``pos_weight=4, scale=0.2``.

    Args:
        pos_weight: Weight of positive pixels relative to negative ones, above 0.
        scale: Factor on the whole loss, above 0.
        class_weight: Instead of ``pos_weight``: factors on negative and positive pixels, as two numbers, a file, or
            ``'auto'``, see :class:`~mtl_plugins.models.losses.ClassWeights`.

    Raises:
        ValueError: If an argument is not a number above 0, or ``class_weight`` is wrong or meets ``pos_weight``.

    Example:
        >>> import torch
        >>> from mtl_plugins.models.losses import MaskedBCELoss
        >>> valid = torch.tensor([[[True, True, False]]])  # the last of three pixels is not labelled
        >>> MaskedBCELoss(pos_weight=3.0)(torch.zeros(1, 1, 1, 3), torch.tensor([[[[1, 0, 255]]]]), valid)  # 2 log(2)
        tensor(1.3863)
    """

    def __init__(self, pos_weight: Positive = 1.0, scale: Positive = 1.0, class_weight: Any = None) -> None:
        super().__init__()
        self.pos_weight = pos_weight
        self.scale = scale
        self.class_weight = ClassWeights(class_weight, 'MaskedBCELoss')
        if self.class_weight and pos_weight != 1:
            raise UserError(
                f'MaskedBCELoss: give class_weight or pos_weight, not both, but got pos_weight={pos_weight!r} and '
                f'class_weight={class_weight!r}'
            )

    def elements(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Binary cross entropy per pixel, mean over channels."""
        target = target.to(pred.dtype)
        # Plain numbers as weights: BCE-with-logits wants pos_weight as a tensor, a copy to the device at each call.
        negative, positive = self.class_weight.tensor(pred) if self.class_weight else (1, self.pos_weight)
        loss = positive * target * F.softplus(-pred) + negative * (1 - target) * F.softplus(pred)
        return self.scale * loss.mean(dim=1)
