"""Random numbers of a forward: dropout and drop-path masks that can be replayed."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


class NoiseState:
    """The state of the global generators at one moment, by any of which models drop layers.

    Those are torch's (CPU, and the device's if it is CUDA), NumPy's and Python's.

    Args:
        device: The device the model runs on.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._python = random.getstate()
        self._numpy = np.random.get_state()  # noqa: NPY002 - the generator that models use
        self._cpu = torch.get_rng_state()
        self._cuda: Tensor | None = torch.cuda.get_rng_state(device) if device.type == 'cuda' else None

    def restore(self) -> None:
        """Put the generators back into this state."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)  # noqa: NPY002
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)

    @contextmanager
    def replay(self) -> Iterator[None]:
        """Draw the same numbers again, and leave the outer stream as if nothing had been drawn."""
        outer = NoiseState(self._device)
        self.restore()
        try:
            yield
        finally:
            outer.restore()
