"""The axes of stored normals beside those that the loader takes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..files import NormalAxes, UnreadableFileError, measure_axes
from .base import Problem, make_problem


@dataclass(frozen=True)
class AxesFinding:
    """What some images of a folder say about the axes of its normals.

    Attributes:
        expected: The axes that the loader takes by default.
        measured: The axes that agree best with depth; None if nothing could be measured.
        agreement: Mean cosine between the stored normals and those of the depth (1: equal).
        certain: Smallest agreement that says anything.
    """

    expected: tuple[str, ...]
    measured: NormalAxes | None
    agreement: float
    certain: float

    @classmethod
    def of(
        cls,
        samples: Iterable[Any],
        read: Callable[[Any], tuple[np.ndarray, np.ndarray]],
        focal_share: float,
        expected: Sequence[str],
        certain: float = 0.5,
    ) -> AxesFinding:
        """Measure.

        Args:
            samples: A few samples.
            read: Sample -> ``(H, W)`` metres and ``(H, W, 3)`` normals as stored.
            focal_share: Focal length of the camera per pixel of width.
            expected: See above.
            certain: See above.
        """
        pairs = []
        for sample in samples:
            with contextlib.suppress(UnreadableFileError):  # the job of this sample says what is wrong with it
                depth, normals = read(sample)
                pairs += [(depth, normals)] * (depth.shape == normals.shape[:2])
        if not pairs:
            return cls(tuple(expected), None, 0.0, certain)
        return cls(tuple(expected), *measure_axes(pairs, focal_share * pairs[0][0].shape[1]), certain)

    def describe(self) -> str:
        """The finding in words, for the head of the report."""
        if self.measured is None:
            return 'axes not measured'
        if self.agreement < self.certain:
            return f'axes cannot be told from depth (mean cosine {self.agreement:.2f} at best)'
        hint = '' if self.measured.axes == self.expected else f'; use normal_axes={self.measured.axes}'
        return f'{self.measured.describe()} (measured against depth, mean cosine {self.agreement:.2f}){hint}'

    def problems(self, path: str) -> Iterable[Problem]:
        """The problem, if the loader would turn the normals of the folder ``path`` the wrong way."""
        if self.measured is None or self.agreement < self.certain or self.measured.axes == self.expected:
            return
        detail = (
            f'expected {self.expected}, which the loader takes, found {self.measured.axes} (measured against depth, '
            f'mean cosine {self.agreement:.2f})'
        )
        remedy = f'set normal_axes={self.measured.axes} in the datasets of your config; then this is no matter'
        yield make_problem('other axes of normals', path, detail, remedy)
