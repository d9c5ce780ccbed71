"""How predictions are made from raw outputs: whole image or sliding window, with or without the mirrored image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mtl_plugins.errors import UserError, UserKeyError
from mtl_plugins.models.heads import TaskHead
from mtl_plugins.models.maps import resized
from mtl_plugins.task_specs import TaskSpec

from .regions import Region

MODES = ('whole', 'slide')
Stream = Callable[[Tensor], Iterator[tuple[str, Tensor]]]
"""Makes the raw outputs ``(N, C, H, W)`` of a batch, task by task."""


@dataclass(frozen=True)
class InferenceSettings:
    """What ``test_cfg`` of a :class:`~mtl_plugins.models.MultiTaskSegmentor` says.

    Args:
        mode: ``'whole'`` sends the image through the network at once. ``'slide'`` cuts it into windows and averages the
            raw outputs where they overlap, before anything is decoded.
        crop_size: Height and width of a window, for ``'slide'``. Along an axis on which the input is smaller, the
            window is as long as the input.
        stride: Distance of the windows down and across; by default two thirds of ``crop_size``. The last window of a
            row or column is moved back to end with the input.
        flip_tta: Also predict the mirrored image, and average: probabilities of classes and binary tasks, unit vectors
            of normals (mirrored back, x negated), the values of all else.
        tasks: The tasks to predict; None for all.

    Raises:
        ValueError: If a setting is none of these, or the strides leave gaps.
    """

    mode: str = 'whole'
    crop_size: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    flip_tta: bool = False
    tasks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UserError(f"test_cfg.mode must be 'whole' or 'slide', but got {self.mode!r}")
        for name in ('crop_size', 'stride'):
            object.__setattr__(self, name, _pair(getattr(self, name), f'test_cfg.{name}'))
        if self.mode == 'whole':
            return
        if self.crop_size is None:
            raise UserError("test_cfg.mode='slide' needs test_cfg.crop_size=(height, width), the size of a window")
        if self.stride is None:
            object.__setattr__(self, 'stride', tuple(max(1, side * 2 // 3) for side in self.crop_size))
        if any(step > side for step, side in zip(self.stride, self.crop_size)):
            raise UserError(
                f'test_cfg.stride must not be larger than test_cfg.crop_size, or pixels are left out, but got '
                f'stride={self.stride}, crop_size={self.crop_size}'
            )

    @classmethod
    def from_cfg(cls, cfg: Mapping[str, Any] | None) -> InferenceSettings:
        """Read ``test_cfg``.

        Raises:
            ValueError: If it has an entry that is not known.
        """
        cfg = dict(cfg or {})
        known = tuple(cls.__dataclass_fields__)
        unknown = sorted(set(cfg) - set(known))
        if unknown:
            raise UserError(f'MultiTaskSegmentor: test_cfg knows {", ".join(known)}, but got {", ".join(unknown)}')
        if cfg.get('tasks') is not None:
            cfg['tasks'] = tuple(cfg['tasks'])
        return cls(**cfg)


def _pair(value: Any, name: str) -> tuple[int, int] | None:
    if value is None:
        return None
    sides = (value, value) if isinstance(value, int) else tuple(value)
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 1 for side in sides):
        raise UserError(f'{name} must be two whole numbers (height, width) of 1 or more, but got {value!r}')
    return sides


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where the windows along an axis begin: every ``stride``, the last one so that it ends with the axis."""
    return [*range(0, max(length - window, 0), stride), max(length - window, 0)]


def slide(stream: Stream, inputs: Tensor, crop_size: tuple[int, int], stride: tuple[int, int]) -> dict[str, Tensor]:
    """Raw outputs ``{task: (N, C, H, W)}`` as the mean over the windows that cover a pixel.

    Args:
        stream: Makes the outputs of a window at the window's size.
        inputs: Images ``(N, 3, H, W)``.
        crop_size: See :class:`InferenceSettings`.
        stride: See :class:`InferenceSettings`.
    """
    size = tuple(inputs.shape[-2:])
    window = tuple(min(side, length) for side, length in zip(crop_size, size))
    rows, columns = (window_starts(*axis) for axis in zip(size, window, stride))
    sums: dict[str, Tensor] = {}
    count = inputs.new_zeros((1, 1, *size))
    for top in rows:
        for left in columns:
            place = Region(top, left, *window)
            place.cut(count).add_(1)
            for task, logits in stream(place.cut(inputs)):
                if task not in sums:
                    sums[task] = logits.new_zeros((*logits.shape[:2], *size))
                place.cut(sums[task]).add_(logits)
    return {task: total.div_(count) for task, total in sums.items()}


def mirrored(inputs: Tensor, regions: Sequence[Region]) -> Tensor:
    """The batch with the content of each image mirrored left to right; its padding stays where it is."""
    out = inputs.clone()
    for image, source, region in zip(out, inputs, regions):
        region.cut(image).copy_(region.cut(source).flip(-1))
    return out


def mirror_back(spec: TaskSpec, raw: Tensor) -> Tensor:
    """Undo the mirroring in a raw output: left and right change places, and normals point the other way along x."""
    raw = raw.flip(-1)
    return raw * raw.new_tensor([-1.0, 1.0, 1.0]).view(3, 1, 1) if spec.kind == 'normals' else raw


def predictions(
    stream: Stream,
    heads: Mapping[str, TaskHead],
    inputs: Tensor,
    regions: Sequence[Region],
    sizes: Sequence[tuple[int, int]],
    settings: InferenceSettings,
) -> Iterator[tuple[str, list[Tensor]]]:
    """Predict a batch, task by task, so that the full-size outputs of one task are freed before the next.

    Args:
        stream: Makes raw outputs of a batch.
        heads: Task -> its head, which decodes.
        inputs: Images ``(N, 3, H, W)``.
        regions: Where the content of each image lies.
        sizes: Height and width that each image's predictions must have.
        settings: How to predict.

    Yields:
        Task and one prediction ``(C, H, W)`` per image, see
        :func:`~mtl_plugins.models.heads.decoding.decode_logits`.
    """
    views = [inputs, mirrored(inputs, regions)] if settings.flip_tta else [inputs]
    if settings.mode == 'slide':
        streams = [iter(slide(stream, view, settings.crop_size, settings.stride).items()) for view in views]
    else:
        streams = [stream(view) for view in views]
    for outputs in zip(*streams):
        head = heads[outputs[0][0]]
        done = []
        for index, (region, size) in enumerate(zip(regions, sizes)):
            raws = [region.cut(logits[index : index + 1]) for _, logits in outputs]
            raws = raws[:1] + [mirror_back(head.spec, raw) for raw in raws[1:]]
            done.append(head.decode(*(resized(raw, size) for raw in raws))[0])
        yield head.task, done


def check_tasks(settings: InferenceSettings, tasks: Sequence[str]) -> None:
    """Make sure that a model with ``tasks`` can predict what is asked for.

    Raises:
        KeyError: If it cannot.
    """
    unknown = [task for task in settings.tasks or () if task not in tasks]
    if unknown:
        raise UserKeyError(f'test_cfg.tasks: the model has no head for {", ".join(unknown)}; it has {", ".join(tasks)}')
