"""Random scale, crop and flip that keep every dense target consistent with its image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from mmcv.transforms.utils import cache_randomness
from mmseg.datasets.transforms import RandomFlip

from mtl_plugins.errors import UserError
from mtl_plugins.registry import TRANSFORMS
from mtl_plugins.task_specs import IGNORE_INDEX, get_task_spec
from mtl_plugins.utils.argument_types import Positive, Range, Share

from .base import Transform
from .fields import as_size, check_sizes, iter_targets, target_key
from .resizing import resize_linear, resize_nearest

_Direction = Literal['horizontal', 'vertical', 'diagonal']


@TRANSFORMS.register_module()
class MultiTaskRandomScale(Transform):
    """Zoom image and targets by one factor drawn uniformly per sample.

    The image is resized bilinearly to ``(int(H * s), int(W * s))`` and every target by nearest neighbour. Depth values
    are divided by ``s``: an object that appears ``s`` times larger is as if seen from ``1 / s`` of the distance. All
    other values stay as they are, since directions, curvatures and class ids do not change with that distance.

    Args:
        scale: Lowest and highest factor.

    Raises:
        ValueError: If ``scale`` is not two positive numbers in ascending order.
    """

    def __init__(self, scale: tuple[Positive, Positive] = (0.5, 2.0)) -> None:
        scale = tuple(scale)
        if scale[0] > scale[1]:
            raise UserError(f'MultiTaskRandomScale: scale must be (low, high) with 0 < low <= high, but got {scale}')
        self.scale = scale

    @cache_randomness
    def draw(self) -> float:
        """Draw a factor from numpy's global generator (see SeededTransforms)."""
        low, high = self.scale
        return low + (high - low) * np.random.random_sample()  # noqa: NPY002 - the generator all of mmcv draws from

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Scale ``img`` and all targets; sets ``img_shape`` and ``scale_factor`` (width, height)."""
        check_sizes(results, type(self).__name__, resized=True)
        factor = self.draw()
        height, width = results['img'].shape[:2]
        size = max(int(height * factor), 1), max(int(width * factor), 1)
        results['img'] = resize_linear(results['img'], size, antialias=False)
        for key, spec in iter_targets(results):
            target = resize_nearest(results[key], size)
            results[key] = target / np.asarray(factor, target.dtype) if spec.kind == 'depth' else target
        results['img_shape'] = size
        results['scale_factor'] = (factor, factor)
        return results


@TRANSFORMS.register_module()
class MultiTaskRandomCrop(Transform):
    """Cut the same random window out of image and targets.

    An image that is smaller than the window along an axis keeps its length there; let ``MultiTaskPad`` follow.

    Args:
        size: Height and width of the window, or one number for a square.
        cat_max_ratio: Draw again, up to 10 times, while one class covers this share of the labelled pixels of
            ``cat_task`` or more. 1 takes the first window.
        cat_task: The task of kind ``'classes'`` or ``'binary'`` that the share is measured on. Samples without it take
            the first window. The released STGU program measures it on the first target that it loads, ``'edge'``, which
            is background nearly everywhere: ten draws later it takes whatever comes.

    Raises:
        KeyError: If ``cat_task`` is unknown.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        cat_max_ratio: Annotated[float, Range(0, 1, above=True)] = 1.0,
        cat_task: str = 'semseg',
    ) -> None:
        spec = get_task_spec(cat_task)
        if not spec.is_categorical:
            raise UserError(
                f"MultiTaskRandomCrop: cat_task must be of kind 'classes' or 'binary', but '{cat_task}' is of kind "
                f"'{spec.kind}'"
            )
        self.size = as_size(size, 'MultiTaskRandomCrop: size')
        self.cat_max_ratio = cat_max_ratio
        self.cat_task = cat_task

    def draw(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """Draw a window inside an image of ``shape`` from numpy's global generator."""
        window = []
        for length, wanted in zip(shape, self.size):
            start = np.random.randint(0, max(length - wanted, 0) + 1)  # noqa: NPY002
            window.append(slice(start, start + wanted))
        return tuple(window)

    @cache_randomness
    def choose(self, shape: tuple[int, int], classes: np.ndarray | None) -> tuple[slice, slice]:
        """Choose the window, looking at the ``(H, W)`` class map if there is one."""
        window = self.draw(shape)
        if self.cat_max_ratio == 1 or classes is None:
            return window
        for _ in range(10):
            # Five times faster than numpy's bincount, which widens its input to 64 bits. Exact up to 2**24 pixels.
            counts = cv2.calcHist([classes[window]], [0], None, [256], [0, 256]).ravel()[:IGNORE_INDEX]
            # An all-unlabelled window is as useless as a window of one class.
            if counts.any() and counts.max() < self.cat_max_ratio * counts.sum(dtype=np.float64):
                break
            window = self.draw(shape)
        return window

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop ``img`` and all targets; sets ``img_shape``."""
        check_sizes(results, type(self).__name__)
        window = self.choose(results['img'].shape[:2], results.get(target_key(self.cat_task)))
        results['img'] = results['img'][window]
        for key, _ in iter_targets(results):
            results[key] = results[key][window]
        results['img_shape'] = results['img'].shape[:2]
        return results


@TRANSFORMS.register_module()
class MultiTaskRandomFlip(Transform, RandomFlip):
    """mmseg's ``RandomFlip`` that also mirrors what normals point at.

    A horizontal flip negates the x component of every task of kind ``'normals'``, a vertical flip the y component, a
    diagonal flip both. Class ids stay as they are: the classes here do not tell left from right.

    Args:
        prob: Probability of a flip, or one per direction.
        direction: ``'horizontal'``, ``'vertical'``, ``'diagonal'`` or a list of them.
        negate_normals: False moves normals without changing them, as the released program for Taskonomy does: half of
            its training images then teach wrong normals. For comparison with that program only.

    Raises:
        ValueError: If ``prob`` is not a probability.

    Example:
        >>> import numpy as np
        >>> from mtl_plugins.datasets.transforms import MultiTaskRandomFlip
        >>> depth = np.array([[1.0, 2.0, 3.0]], np.float32)
        >>> image = np.zeros((1, 3, 3), np.uint8)
        >>> sample = dict(img=image, img_shape=(1, 3), gt_depth=depth, seg_fields=['gt_depth'])
        >>> MultiTaskRandomFlip(prob=1.0)(sample)['gt_depth']
        array([[3., 2., 1.]], dtype=float32)
    """

    def __init__(
        self,
        prob: Share | Sequence[Share] = 0.5,
        direction: _Direction | Sequence[_Direction] = 'horizontal',
        negate_normals: bool = True,
    ) -> None:
        values = [float(p) for p in prob] if isinstance(prob, Sequence) else float(prob)
        if isinstance(prob, Sequence) and not 0 <= sum(prob) <= 1:
            raise UserError(f'MultiTaskRandomFlip: prob must lie in 0..1 (a list: its sum), but got {prob}')
        super().__init__(prob=values, direction=direction if isinstance(direction, str) else list(direction))
        self.negate_normals = negate_normals

    def _flip(self, results: dict[str, Any]) -> None:
        direction = results['flip_direction']
        code = {'vertical': 0, 'horizontal': 1, 'diagonal': -1}[direction]
        results['img'] = cv2.flip(results['img'], code)
        for key, spec in iter_targets(results):
            shape = results[key].shape  # OpenCV drops a last axis of length 1
            flipped = results[key] = cv2.flip(results[key], code).reshape(shape)
            if spec.kind == 'normals' and self.negate_normals:
                for axis, other in enumerate(('vertical', 'horizontal')):
                    if direction != other:
                        # `0 - x` keeps the zeros of unlabelled pixels positive: flipping twice changes no bit.
                        np.subtract(0, flipped[..., axis], out=flipped[..., axis])
