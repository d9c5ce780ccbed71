"""L1 and squared error over the labelled pixels."""

from torch import Tensor

from mtl_plugins.registry import MODELS

from .base import MaskedLoss


@MODELS.register_module()
class MaskedL1Loss(MaskedLoss):
    """Absolute error, mean over channels and labelled pixels.

    Example:
        >>> import torch
        >>> from mtl_plugins.models.losses import MaskedL1Loss
        >>> valid = torch.tensor([[[True, True, False]]])  # the last of three pixels is not labelled
        >>> MaskedL1Loss()(torch.zeros(1, 1, 1, 3), torch.tensor([[[[1.0, 2.0, 9.0]]]]), valid)
        tensor(1.5000)
    """

    def elements(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Absolute error per pixel."""
        return (pred - target).abs().mean(dim=1)


@MODELS.register_module()
class MaskedMSELoss(MaskedLoss):
    """Squared error, mean over channels and labelled pixels."""

    def elements(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Squared error per pixel."""
        return (pred - target).square().mean(dim=1)
