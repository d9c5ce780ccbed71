"""From a list of packed samples to a normalized batch on the model's device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mtl_plugins.errors import UserError
from mtl_plugins.registry import MODELS
from mtl_plugins.structures.batches import TARGETS, alike_targets, stacked
from mtl_plugins.task_specs import get_task_spec
from mtl_plugins.utils.argument_types import Checked, Count

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@MODELS.register_module()
class MultiTaskDataPreProcessor(Checked, BaseDataPreprocessor):
    """Normalize images, pad them to one size at the right and bottom, and stack them.

    Images are padded with 0 after the normalization, which is the mean colour. In training every target ``gt_<task>``
    is padded along with its image by its task's own "not labelled" value; otherwise targets keep their size, because
    predictions are cut back to the content before they are compared. The data samples of the input are not changed.

    Each data sample's meta information says where the content is: ``img_shape`` is its (height, width), ``pad_offset``
    its (top, left) corner and ``pad_shape`` the (height, width) of the batch. What an earlier ``MultiTaskPad`` wrote
    stays in force; outside of training that includes ``pad_shape``, to which it may have padded the targets.

    Args:
        mean: Mean per channel in RGB order (in the order of ``inputs`` if ``bgr_to_rgb`` is False), for values 0..255.
        std: Standard deviation per channel, likewise.
        bgr_to_rgb: Whether ``inputs`` are BGR, as the pipeline loads them, and the model wants RGB.
        size_divisor: Pad to the next multiple of this.
        size: Pad to this (height, width); a larger image is an error. At most one of the two may be given.
        non_blocking: Copy to the device without waiting; from pinned memory (``pin_memory=True`` and
            ``collate_fn=dict(type='mtl_plugins.collate_targets')`` of a data loader) that is always done.

    Raises:
        ValueError: If ``mean`` and ``std`` have not three values each, a ``std`` is not positive, or both sizes are
            given.
    """

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        bgr_to_rgb: bool = True,
        size_divisor: Count | None = None,
        size: tuple[int, int] | None = None,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise UserError(
                'MultiTaskDataPreProcessor: mean and std need three values each, std above 0, '
                f'but got mean={mean} and std={std}'
            )
        if size is not None and size_divisor is not None:
            raise UserError(
                'MultiTaskDataPreProcessor: give size or size_divisor, not both, '
                f'but got size={size} and size_divisor={size_divisor}'
            )
        # Not persistent: they come from the config, and a checkpoint must not overrule it.
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.bgr_to_rgb = bgr_to_rgb
        self.size_divisor = size_divisor
        self.size = None if size is None else (int(size[0]), int(size[1]))

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Make a batch.

        Args:
            data: ``inputs``, a list of ``(3, H, W)`` tensors or one ``(N, 3, H, W)`` tensor, and ``data_samples``, a
                list of data samples (may be missing outside of training).
            training: Whether targets are padded.

        Returns:
            ``dict(inputs=(N, 3, H, W) float32 tensor, data_samples=list or None)``.

        Raises:
            ValueError: If images do not fit into ``size``, or in training without data samples or with a target that
                is not as large as its image.
        """
        data = dict(data)
        targets, samples = data.pop(TARGETS, None), data.get('data_samples')
        if training and samples is None:
            raise UserError('MultiTaskDataPreProcessor: training needs data_samples, but the batch has only inputs')
        if training:
            targets, data['data_samples'] = self._take_out(samples, targets)
        if isinstance(data['inputs'], torch.Tensor):
            data['inputs'] = self._copied(data['inputs'])
        data = self.cast_data(data)
        images, samples = list(data['inputs']), data.get('data_samples')
        shape = self._batch_shape(images)
        batch = torch.stack([self._prepare(image, shape) for image in images])
        if samples is not None:
            for image, sample in zip(images, samples):
                self._complete(sample, tuple(image.shape[1:]), shape, training)
        if training:
            self._put_back(samples, targets, images, shape)
        return dict(inputs=batch, data_samples=samples)

    def _copied(self, tensor: torch.Tensor) -> torch.Tensor:
        """On the device; from pinned memory without waiting."""
        return tensor.to(self.device, non_blocking=self._non_blocking or tensor.is_pinned())

    @staticmethod
    def _take_out(
        samples: Sequence[SegDataSample], collated: Mapping[str, torch.Tensor] | None
    ) -> tuple[dict[str, torch.Tensor], list[SegDataSample]]:
        """Targets that are alike in all samples, in one tensor each, and copies of the samples without them."""
        targets = {key: (collated or {}).get(key) for key in alike_targets(samples)}
        targets = {
            key: stacked([sample.get(key).data for sample in samples]) if whole is None else whole
            for key, whole in targets.items()
        }
        rest = [sample.new() for sample in samples]
        for sample in rest:
            for key in targets:
                del sample[key]
        return targets, rest

    def _put_back(
        self,
        samples: Sequence[SegDataSample],
        targets: Mapping[str, torch.Tensor],
        images: Sequence[torch.Tensor],
        shape: tuple[int, int],
    ) -> None:
        """Copy the targets to the device, one tensor each, and give every sample its row of it."""
        for key, whole in targets.items():
            for sample, image in zip(samples, images):
                _check_size(sample, key, whole, tuple(image.shape[1:]))
            padding = _right_bottom(whole, shape)
            whole = self._copied(whole)
            if any(padding):
                whole = F.pad(whole, padding, value=get_task_spec(key[len('gt_') :]).fill)
            for sample, target in zip(samples, whole):
                sample.set_data({key: PixelData(data=target)})

    def _batch_shape(self, images: Sequence[torch.Tensor]) -> tuple[int, int]:
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        if self.size is not None:
            if height > self.size[0] or width > self.size[1]:
                raise UserError(
                    f'MultiTaskDataPreProcessor: an image of {height} x {width} does not fit into size={self.size}; '
                    'crop or resize it in the pipeline, or use size_divisor'
                )
            return self.size
        step = self.size_divisor or 1
        return -(-height // step) * step, -(-width // step) * step

    def _prepare(self, image: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        if self.bgr_to_rgb:
            image = image.flip(0)
        image = (image.float() - self.mean) / self.std
        return F.pad(image, _right_bottom(image, shape))

    @staticmethod
    def _complete(sample: SegDataSample, image_shape: tuple[int, int], shape: tuple[int, int], training: bool) -> None:
        """Write the meta information and, in training, pad the targets in place."""
        content = sample.metainfo.get('img_shape', image_shape)[:2]
        offset = sample.metainfo.get('pad_offset', (0, 0))
        padded = shape if training else tuple(sample.metainfo.get('pad_shape', shape))
        sample.set_metainfo(dict(img_shape=tuple(content), pad_shape=padded, pad_offset=tuple(offset)))
        if not training:
            return
        for key in [key for key in sample.keys() if key.startswith('gt_')]:  # noqa: SIM118 - it is no mapping
            target = sample.get(key).data
            _check_size(sample, key, target, image_shape)
            padding = _right_bottom(target, shape)
            if any(padding):
                fill = get_task_spec(key[len('gt_') :]).fill
                sample.set_data({key: PixelData(data=F.pad(target, padding, value=fill))})


def _check_size(sample: SegDataSample, key: str, target: torch.Tensor, image_shape: tuple[int, int]) -> None:
    if tuple(target.shape[-2:]) != image_shape:
        raise UserError(
            f"sample '{sample.metainfo.get('img_path', '?')}': {key} is {tuple(target.shape[-2:])}, but its "
            f'image is {image_shape}; in training both must go through the same transforms '
            '(MultiTaskPad(pad_targets=True))'
        )


def _right_bottom(tensor: torch.Tensor, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    return 0, shape[1] - tensor.shape[-1], 0, shape[0] - tensor.shape[-2]
