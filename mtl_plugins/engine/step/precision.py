"""Mixed precision on CPU and GPU: autocast plus, for fp16, a gradient scaler."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mtl_plugins.errors import UserError
from mtl_plugins.utils.argument_types import Checked, Positive

_DTYPES = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def precision_entry(
    precision: str | Mapping[str, Any] | None,
    loss_scale: str | float | Mapping[str, Any] | None = None,
    dtype: Any = None,
) -> str | dict[str, Any]:
    """What a config asks for, in our words or in those of MMEngine's ``AmpOptimWrapper``, in ours.

    Args:
        precision: Our name, or a dict with the arguments of :class:`Precision`. None: fp32, or what the others ask for.
        loss_scale: ``'dynamic'``, the first scale, or a dict of such options of ``torch.amp.GradScaler`` as
            :class:`Precision` takes too.
        dtype: ``'float16'`` or ``'bfloat16'``.

    Raises:
        UserError: If an option is not known.
    """
    if precision is None:
        precision = 'fp32' if loss_scale is None and dtype is None else _precision_of_amp(dtype)
    if isinstance(loss_scale, Mapping):
        options = dict(loss_scale)
    elif isinstance(loss_scale, int | float) and not isinstance(loss_scale, bool):
        options = dict(init_scale=float(loss_scale))
    elif loss_scale in (None, 'dynamic'):
        options = {}
    else:
        raise UserError(f"loss_scale must be 'dynamic', a number above 0 or a dict, but got {loss_scale!r}")
    if isinstance(precision, Mapping):
        return {**options, **precision}
    return dict(precision=precision, **options) if options else precision


def _precision_of_amp(dtype: Any) -> str:
    """Our name for what MMEngine's ``AmpOptimWrapper`` computes in; like it, fp16 unless it says otherwise."""
    name = str(dtype).removeprefix('torch.')
    names = {'None': 'fp16', 'float16': 'fp16', 'bfloat16': 'bf16', 'float32': 'fp32'}
    if name not in names:
        raise UserError(f'dtype must be float16, bfloat16 or float32, but got {dtype!r}')
    return names[name]


class Precision(Checked):
    """Computes in ``precision`` while weights, gradients and optimizer state stay in fp32.

    MMEngine's ``AmpOptimWrapper`` needs a GPU; ``torch.amp`` itself works on CPU too, so that the same code path is
    tested there.

    Args:
        precision: ``'fp32'``, ``'bf16'`` or ``'fp16'``.
        init_scale: First loss scale of fp16. A power of two, so that scaling itself loses nothing.
        growth_interval: Steps without overflow after which the fp16 scale doubles. Every optimizer step counts, so
            STGU with M groups counts M per batch.

    Raises:
        ValueError: If ``precision`` is unknown, or a number is not above 0.
    """

    PLACE = 'precision'

    def __init__(
        self, precision: str = 'fp32', init_scale: Positive = 2.0**16, growth_interval: Positive = 2000
    ) -> None:
        if precision not in _DTYPES:
            raise UserError(f'precision must be one of {list(_DTYPES)}, but got {precision!r}')
        self.name = precision
        self.dtype = _DTYPES[precision]
        self._scaler_options = dict(init_scale=init_scale, growth_interval=growth_interval)
        self._scaler: torch.amp.GradScaler | None = None
        self._pending_state: dict[str, Any] | None = None

    @property
    def uses_scaler(self) -> bool:
        """Whether losses are scaled, which only fp16 needs."""
        return self.dtype is torch.float16

    @property
    def growth_interval(self) -> int:
        """Steps without overflow after which the loss scale doubles."""
        return int(self._scaler_options['growth_interval'])

    @property
    def init_scale(self) -> float:
        """First loss scale."""
        return float(self._scaler_options['init_scale'])

    @property
    def loss_scale(self) -> float:
        """The present loss scale, 1 without a scaler."""
        if self._scaler is not None:
            return self._scaler.get_scale()
        # A rank that has not had a loss yet divides what the others scaled.
        return float((self._pending_state or {}).get('scale', self.init_scale)) if self.uses_scaler else 1.0

    def autocast(self, device_type: str) -> AbstractContextManager:
        """A new autocast context.

        Each forward takes its own: within one context the cast weights are cached, so that a forward after an
        optimizer step would use stale ones.
        """
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(device_type, dtype=self.dtype)

    def scale(self, loss: Tensor) -> Tensor:
        """The loss to differentiate."""
        return self._get_scaler(loss.device.type).scale(loss) if self.uses_scaler else loss

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients of ``optimizer`` by the loss scale, in place."""
        if self.uses_scaler:
            self._get_scaler(_device_type(optimizer)).unscale_(optimizer)

    def step(self, optimizer: Optimizer, **kwargs: Any) -> bool:
        """Step ``optimizer`` after :meth:`unscale_`; returns False if fp16 gradients overflowed and it was skipped."""
        if not self.uses_scaler:
            optimizer.step(**kwargs)
            return True
        scaler = self._get_scaler(_device_type(optimizer))
        before = scaler.get_scale()
        scaler.step(optimizer, **kwargs)
        scaler.update()
        return scaler.get_scale() >= before

    def state_dict(self) -> dict[str, Any]:
        """Plain state: the name and, for fp16, the scaler's numbers."""
        scaler = self._scaler.state_dict() if self._scaler is not None else self._pending_state
        return dict(name=self.name, scaler=scaler)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; the scaler's part applies only if both runs use fp16."""
        self._pending_state = state.get('scaler') if self.uses_scaler else None
        if self._scaler is not None and self._pending_state:
            self._scaler.load_state_dict(self._pending_state)

    def _get_scaler(self, device_type: str) -> torch.amp.GradScaler:
        if self._scaler is None:
            self._scaler = torch.amp.GradScaler(device_type, **self._scaler_options)
            if self._pending_state:
                self._scaler.load_state_dict(self._pending_state)
            # It would only begin with a loss, which a rank whose batch has no labels does not have.
            self._scaler.scale(torch.zeros((), device=device_type))
        return self._scaler


def _device_type(optimizer: Optimizer) -> str:
    return optimizer.param_groups[0]['params'][0].device.type
