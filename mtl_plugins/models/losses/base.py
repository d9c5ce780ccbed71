"""What the masked losses share: shapes, full precision, and the mean over valid pixels."""

import inspect
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mtl_plugins.errors import UserError
from mtl_plugins.utils.argument_types import Checked


def masked_mean(elements: Tensor, valid: Tensor) -> Tensor:
    """Mean of ``elements`` over the valid pixels.

    Without a valid pixel the result is 0 and still has a graph (with zero gradients), so that a batch without labels
    needs no special case, and no value has to be read back from the device.

    Args:
        elements: One number per pixel, ``(N, H, W)``.
        valid: Which of them count, bool ``(N, H, W)``.

    Returns:
        A scalar.
    """
    return torch.where(valid, elements, 0).sum() / valid.sum().clamp_min(1)


class MaskedLoss(Checked, nn.Module, ABC):
    """Base of the losses: ``loss(pred, target, valid) -> scalar``, the mean over the valid pixels of the batch.

    Half precision predictions are compared in float32, autocast or not. Targets of pixels that are not valid may hold
    anything, NaN included: they are replaced before any arithmetic, because NaN times a mask of 0 is NaN in the
    gradient.

    A mean over valid pixels makes the loss of a joint batch the mean of the parts' losses, weighted by their numbers of
    valid pixels; that is what gradient accumulation and several processes rely on.
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Compare a prediction with its target.

        Args:
            pred: Prediction ``(N, C, H, W)``, floating point.
            target: Target ``(N, c, H, W)``.
            valid: Labelled pixels, bool ``(N, H, W)``; see :func:`~mtl_plugins.models.losses.valid_mask`.

        Returns:
            A scalar in float32 (float64 if ``pred`` is).

        Raises:
            ValueError: If the shapes do not fit each other.
        """
        self.check_shapes(pred, target, valid)
        with torch.autocast(pred.device.type, enabled=False):
            pred = pred.to(torch.promote_types(pred.dtype, torch.float32))
            return masked_mean(self.elements(pred, torch.where(valid[:, None], target, 0), valid), valid)

    def extra_repr(self) -> str:
        """The arguments, for printing; those that are None, or weights that there are none of, are left out."""
        given = {name: getattr(self, name, None) for name in inspect.signature(type(self)).parameters}
        return ', '.join(f'{name}={value!r}' for name, value in given.items() if value)

    @abstractmethod
    def elements(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Loss per pixel ``(N, H, W)``; targets are 0 where not valid, and what is returned there does not count."""

    def target_channels(self, pred_channels: int) -> int:
        """Channels that a target must have for a prediction of ``pred_channels``: as many, unless overridden."""
        return pred_channels

    def check_shapes(self, pred: Tensor, target: Tensor, valid: Tensor) -> None:
        """Raise ValueError unless prediction, target and mask describe the same pixels."""
        batch, channels, *size = pred.shape
        wanted = (batch, self.target_channels(channels), *size)
        if tuple(target.shape) != wanted or tuple(valid.shape) != (batch, *size):
            raise UserError(
                f'{type(self).__name__}: for a prediction of shape {tuple(pred.shape)} the target must have shape '
                f'{wanted} and the mask {(batch, *size)}, but got {tuple(target.shape)} and {tuple(valid.shape)}'
            )
