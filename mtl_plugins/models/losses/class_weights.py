"""Weights of classes: numbers, a file of numbers, or ``'auto'`` for those that the training labels give."""

import numbers
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl_plugins.errors import UserError, UserFileNotFoundError
from mtl_plugins.utils.files import given_path
from mtl_plugins.utils.json_files import parse_json

AUTO = 'auto'
HOOK = 'mtl_plugins.ClassWeightHook'
_FILES = ('.json', '.npy', '.txt')


class ClassWeights:
    """One weight per class of a loss.

    Args:
        value: Numbers of 0 or more, one per class and not all 0; the name of a ``.json``, ``.npy`` or ``.txt`` file
            that holds them; ``'auto'``: median frequency balancing, settled before training by
            :class:`~mtl_plugins.engine.hooks.ClassWeightHook`; None: all classes count the same.
        owner: The loss, for messages.

    Attributes:
        values: The numbers; None if there are none (yet).
        auto: Whether they come from the training labels.

    Raises:
        UserError: If ``value`` is none of these.
        UserFileNotFoundError: If there is no such file.
    """

    def __init__(self, value: Any, owner: str) -> None:
        self.owner = f'{owner}: class_weight'
        self.auto = isinstance(value, str) and value == AUTO
        self.values: tuple[float, ...] | None = None
        self._tensors: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        if value is not None and not self.auto:
            self.values = self._checked(_read(value, self.owner) if isinstance(value, (str, os.PathLike)) else value)

    def __bool__(self) -> bool:
        return self.auto or self.values is not None

    def check(self, count: int, where: str) -> None:
        """Refuse another number of weights than classes.

        Raises:
            UserError: If they differ.
        """
        if self.values is not None and len(self.values) != count:
            raise UserError(
                f'{where}: {self.owner} must have {count} numbers, one per class, but has {len(self.values)}'
            )

    def settle(self, values: Sequence[float]) -> None:
        """Set the weights of ``'auto'``."""
        self.values = self._checked(values)
        self._tensors.clear()

    def tensor(self, like: Tensor) -> Tensor:
        """The weights ``(classes,)`` with device and type of ``like``.

        Raises:
            UserError: If they are ``'auto'`` and nobody has settled them.
        """
        if self.values is None:
            raise UserError(
                f"{self.owner}='auto' is taken from the labels before training, by {HOOK}, which the train command "
                f"adds by itself; elsewhere add custom_hooks=[dict(type='{HOOK}')], or give the numbers"
            )
        key = (like.device, like.dtype)
        if key not in self._tensors:  # no copy to the device in every step
            self._tensors[key] = torch.tensor(self.values, device=like.device, dtype=like.dtype)
        return self._tensors[key]

    def _checked(self, values: Any) -> tuple[float, ...]:
        values = values.tolist() if isinstance(values, (np.ndarray, Tensor)) else values
        listed = isinstance(values, (list, tuple)) and len(values) > 0
        if not (listed and all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in values)):
            raise UserError(
                f"{self.owner} must be a list of numbers, one per class, a file of them, or 'auto', but got {values!r}"
            )
        try:
            weights = torch.tensor([float(value) for value in values], dtype=torch.float64)
        except OverflowError:  # whole numbers above all floats
            weights = torch.tensor([torch.inf], dtype=torch.float64)
        used = weights.float()  # what the loss counts with
        if not (used.isfinite() & (used >= 0) & ((used > 0) == (weights > 0))).all() or not used.any():
            raise UserError(
                f'{self.owner} must be finite numbers of 0 or more in float32, not all 0, but got {list(values)}'
            )
        return tuple(weights.tolist())

    def __repr__(self) -> str:
        if self.values is None:
            return repr(AUTO if self.auto else None)
        return f'[{", ".join(f"{value:.4g}" for value in self.values)}]'


def median_frequency(pixels: Sequence[int], present: Sequence[int]) -> list[float]:
    """Weights by median frequency balancing (Eigen and Fergus, ICCV 2015, section 6).

    The frequency of a class is the share of its pixels among the labelled pixels of the images that show it; its weight
    is the median of all frequencies divided by its own. A class that never occurs gets 1 and is not part of the median.

    Args:
        pixels: Labelled pixels of each class.
        present: Labelled pixels, of any class, of the images that show the class.

    Raises:
        UserError: If nothing is labelled.
    """
    shares = [count / total if count else None for count, total in zip(pixels, present)]
    known = sorted(share for share in shares if share is not None)
    if not known:
        raise UserError("class_weight='auto': the training labels of the task have not a single labelled pixel")
    middle = len(known) // 2
    median = known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) / 2
    return [1.0 if share is None else median / share for share in shares]


def _read(path: str | os.PathLike, owner: str) -> Any:
    file = given_path(path, owner)
    if file.suffix not in _FILES:
        raise UserError(
            f"{owner} must be a list of numbers, 'auto', or a file ending in {', '.join(_FILES)}, but got {str(path)!r}"
        )
    if not file.is_file():
        raise UserFileNotFoundError(f'{owner}: there is no file {path}')
    try:
        if file.suffix == '.npy':
            return np.load(file, allow_pickle=False)
        if file.suffix == '.json':
            return parse_json(file.read_bytes(), f'{owner}: {path}')
        return [float(part) for part in file.read_text('utf-8-sig').replace(',', ' ').split()]
    except UserError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f'{owner}: {path} cannot be read as numbers ({error})') from error
