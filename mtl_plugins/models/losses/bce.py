"""Binary cross entropy over the labelled pixels."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from mtl_plugins.errors import UserError
from mtl_plugins.registry import MODELS

from .base import MaskedLoss


@MODELS.register_module()
class MaskedBCELoss(MaskedLoss):
    """Binary cross entropy of logits, mean over the labelled pixels.

    ``scale * (pos_weight * y * -log(p) + (1 - y) * -log(1 - p))`` with ``p = sigmoid(pred)``. An edge loss
    ``e y`` against ``(1 - e) (1 - y)`` is ``pos_weight=e / (1 - e), scale=1 - e``: the released STGU program's 0.95 is
    ``pos_weight=19, scale=0.05``, ATRC's 0.8 on NYUD-v2 is ``pos_weight=4, scale=0.2``.

    Args:
        pos_weight: Weight of positive pixels relative to negative ones, above 0.
        scale: Factor on the whole loss, above 0.

    Raises:
        ValueError: If an argument is not a number above 0.
    """

    def __init__(self, pos_weight: float = 1.0, scale: float = 1.0) -> None:
        super().__init__()
        for name, value in (('pos_weight', pos_weight), ('scale', scale)):
            if not (math.isfinite(value) and value > 0):
                raise UserError(f'MaskedBCELoss: {name} must be a number above 0, but got {value!r}')
        self.pos_weight = pos_weight
        self.scale = scale

    def elements(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Binary cross entropy per pixel, mean over channels."""
        target = target.to(pred.dtype)
        # Plain numbers as weights: BCE-with-logits wants pos_weight as a tensor, a copy to the device at each call.
        loss = self.pos_weight * target * F.softplus(-pred) + (1 - target) * F.softplus(pred)
        return self.scale * loss.mean(dim=1)

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f'pos_weight={self.pos_weight}, scale={self.scale}'
