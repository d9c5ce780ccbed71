"""Losses for the log whose values come to the host together with what a step reads anyway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def read_together(scalars: Sequence[LoggedScalar]) -> None:
    """Bring the numbers of all to the host, in one transfer."""
    if scalars:
        parts = [scalar.as_subclass(Tensor).double() for scalar in scalars]
        for scalar, number in zip(scalars, torch.stack(parts).tolist()):
            scalar.number = number


class LoggedScalar(Tensor):
    """A detached scalar; :meth:`item` is free once ``number`` is known.

    MMEngine's ``parse_losses`` takes the mean of each loss and their sum, and its hook then asks for each of these
    numbers, which is one wait for the device per loss. Mean and sum of these scalars are such scalars again; everything
    else that is computed from them is an ordinary tensor.

    Attributes:
        number: Its value; None as long as it is on the device only.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl
    number: float | None = None

    @classmethod
    def of(cls, value: Tensor) -> Tensor:
        """One real number as such a scalar; other tensors as they are."""
        return value.reshape(()).as_subclass(cls) if value.numel() == 1 and value.is_floating_point() else value

    def mean(self, *args: Any, **kwargs: Any) -> Tensor:
        """Itself."""
        return super().mean(*args, **kwargs) if args or kwargs else self

    def __add__(self, other: Any) -> Tensor:
        return super().__add__(other).as_subclass(LoggedScalar)

    __radd__ = __add__

    def item(self) -> float:
        """Its value."""
        return super().item() if self.number is None else self.number

    def __float__(self) -> float:
        return float(self.item())

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self.as_subclass(Tensor).clone()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.as_subclass(Tensor).__reduce_ex__(protocol)
