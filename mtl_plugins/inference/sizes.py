"""At which size an image goes through the network."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from mtl_plugins.config.datasets import leaf_datasets

Size = tuple[int, int]
CHOICES = ('fit', 'none')


def training_size(cfg: Config) -> Size | None:
    """Height and width of the images that a model of this config is trained on, None if the config does not tell.

    Looked for in this order: a crop or else a resizing in the training pipeline, a resizing in the test pipeline,
    ``model.backbone.img_size``.
    """
    train, test = (list(_transforms(cfg, loader)) for loader in ('train_dataloader', 'test_dataloader'))
    for transforms, ending in ((train, 'Crop'), (train, 'Resize'), (test, 'Resize')):
        for transform in transforms:
            size = _size_of(transform) if str(transform.get('type')).endswith(ending) else None
            if size is not None:
                return size
    return _pair((cfg.model.get('backbone') or {}).get('img_size'))


def padding_of(cfg: Config) -> dict[str, Any] | None:
    """The ``MultiTaskPad`` of the test pipeline, None if there is none."""
    for transform in _transforms(cfg, 'test_dataloader'):
        if str(transform.get('type')).split('.')[-1] == 'MultiTaskPad':
            return {key: value for key, value in transform.items() if key != 'type'}
    return None


def content_size(shape: Size, resize: str | Size, trained: Size | None) -> Size:
    """Size to which an image is resized before it is padded.

    Args:
        shape: Height and width of the image.
        resize: ``'fit'`` shrinks it, keeping its proportions, until it fits into ``trained``, and never enlarges it;
            ``'none'`` leaves it; a (height, width) is taken as it is.
        trained: See :func:`training_size`; None leaves the image under ``'fit'`` too.
    """
    if resize == 'none' or (resize == 'fit' and trained is None):
        return shape
    if resize != 'fit':
        return tuple(resize)
    factor = min(1.0, *(want / have for want, have in zip(trained, shape)))
    return tuple(max(1, round(side * factor)) for side in shape)


def round_up(size: Size, divisor: Size) -> Size:
    """The next multiples."""
    return tuple(-(-side // step) * step for side, step in zip(size, divisor))


def _transforms(cfg: Config, loader: str) -> Iterator[Any]:
    for place, dataset in leaf_datasets(cfg):
        if place.startswith(loader):
            yield from _flat(dataset.get('pipeline') or ())


def _flat(pipeline: Any) -> Iterator[Any]:
    for transform in pipeline:
        if 'type' in transform:
            yield transform
        yield from _flat(transform.get('transforms') or ())


def _size_of(transform: Any) -> Size | None:
    if 'scale' in transform:  # mmcv's transforms, whose order is (width, height)
        size = _pair(transform['scale'])
        return size and size[::-1]
    return _pair(transform.get('crop_size') or transform.get('size'))


def _pair(value: Any) -> Size | None:
    sides = (value, value) if isinstance(value, int) else value
    if not isinstance(sides, list | tuple) or len(sides) != 2:
        return None
    return tuple(sides) if all(isinstance(side, int) and side >= 1 for side in sides) else None
