"""Random choices made from uniform numbers alone."""

import colorsys
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar('T')
Colour = tuple[float, float, float]


class Draw:
    """Random numbers for one image.

    Everything comes from ``Generator.random``: NumPy may change the streams of its other distributions from version to
    version, which would change the dataset.

    Args:
        key: Integers that identify the image, for example ``(version, split, seed, index)``.
    """

    def __init__(self, key: Sequence[int]) -> None:
        self.rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(key))))

    def uniform(self, low: float, high: float) -> float:
        """A number between ``low`` and ``high``."""
        return low + (high - low) * float(self.rng.random())

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return float(self.rng.random()) < probability

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        return low + int(float(self.rng.random()) * (high - low + 1))

    def choice(self, options: Sequence[T]) -> T:
        """One of ``options``."""
        return options[self.integer(0, len(options) - 1)]

    def colour(self, saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
        """A linear RGB colour of any hue, with saturation and value from the given ranges."""
        return colorsys.hsv_to_rgb(self.uniform(0, 1), self.uniform(*saturation), self.uniform(*value))
