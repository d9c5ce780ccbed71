"""A task's share of the model: prediction, loss, and what the prediction means."""

import inspect
import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mtl_plugins.errors import UserError
from mtl_plugins.models.losses import ClassWeights, valid_mask
from mtl_plugins.models.maps import resized
from mtl_plugins.registry import MODELS
from mtl_plugins.task_specs import IGNORE_INDEX, get_task_spec

from .decoding import decode_views
from .predictors import build_predictor

FEATURES = ('decoder', 'last', 'maps')


class TaskLoss(NamedTuple):
    """Loss of one task on one batch.

    Attributes:
        loss: Scalar, the mean over the valid pixels times ``loss_weight``.
        num_valid: Number of valid pixels as a float tensor (which is what loggers can average).
    """

    loss: Tensor
    num_valid: Tensor


@MODELS.register_module()
class TaskHead(BaseModule):
    """Predictor, loss and decoding of one task.

    Args:
        task: Key in :mod:`mtl_plugins.task_specs`; decides channels, validity, default loss and decoding. Filled in by
            the segmentor from the key of ``heads``.
        in_channels: Channels of the features. Filled in by the segmentor.
        num_classes: Classes of a task of kind ``classes``; no other task takes it.
        channels: Channels of the prediction, for two kinds of task. ``binary``: 1 (default, a logit) or 2 (as the
            released STGU program has for saliency; for MaskedCrossEntropyLoss or BalancedCrossEntropyLoss).
            ``regression``: as many as the targets of the dataset have, by default those of the task (Taskonomy's
            ``reshading``, for example, has 3 instead of 1).
        features: What the predictor gets: ``'decoder'`` the output of the decoder, ``'last'`` the last map of the
            backbone, ``'maps'`` all of its maps (for mmseg decode heads with ``in_index`` and ``input_transform``).
        predictor: Config of the predictor, None for one 1x1 convolution; see
            :func:`~mtl_plugins.models.heads.predictors.build_predictor`.
        loss: Config of the loss, None for the task's default; without ``type``, settings of the default.
        loss_weight: Factor on the loss.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        KeyError: If the task is not known.
        ValueError: If an argument does not suit the task.
    """

    def __init__(
        self,
        task: str,
        in_channels: int | Sequence[int],
        num_classes: int | None = None,
        channels: int | None = None,
        features: str = 'decoder',
        predictor: dict[str, Any] | None = None,
        loss: dict[str, Any] | None = None,
        loss_weight: float = 1.0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if features not in FEATURES:
            raise UserError(f"head of task '{task}': features must be one of {FEATURES}, but got {features!r}")
        if not (math.isfinite(loss_weight) and loss_weight >= 0):
            raise UserError(f"head of task '{task}': loss_weight must be a number >= 0, but got {loss_weight!r}")
        self.spec = get_task_spec(task)
        self.task = task
        self.features = features
        self.loss_weight = loss_weight
        self.out_channels = output_channels(task, num_classes, channels)
        self.predictor = build_predictor(predictor, in_channels, self.out_channels, task)
        self.criterion = _build_loss(task, {**({} if 'type' in (loss or {}) else self.spec.loss), **(loss or {})})
        weights = getattr(self.criterion, 'class_weight', None)
        if isinstance(weights, ClassWeights):
            weights.check(self.num_labels, f"head of task '{task}'")

    @property
    def num_labels(self) -> int:
        """Values that the targets of a task of classes or of a binary one can have."""
        return 2 if self.spec.kind == 'binary' else self.out_channels

    @property
    def target_channels(self) -> int:
        """Channels that the targets of this head have: one index map, or as many as the prediction."""
        return 1 if self.spec.is_categorical else self.out_channels

    def forward(self, features: Tensor | Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Predict at the resolution of the input.

        Args:
            features: One map ``(N, C, h, w)``, or all maps of the backbone with ``features='maps'``.
            size: Height and width of the input image.

        Returns:
            Raw output ``(N, out_channels, *size)`` in float32 at least, resized bilinearly.

        Raises:
            ValueError: If the predictor has another number of channels than the task.
        """
        if isinstance(features, Tensor) and hasattr(self.predictor, 'in_index'):
            features = [features]  # decode heads of mmseg choose their map out of a list
        logits = self.predictor(features)
        if logits.shape[1] != self.out_channels:
            raise UserError(
                f"head of task '{self.task}': the predictor {type(self.predictor).__name__} returned "
                f'{logits.shape[1]} channels, but the task has {self.out_channels}'
            )
        return self.resize(logits, size)

    @staticmethod
    def resize(logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Raw predictions ``(N, C, h, w)`` of any kind at ``size``: bilinearly, in float32 at least."""
        device = logits.device.type
        # Only where autocast is on: as a part of an exported graph the region would be an obstacle.
        with torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext():
            return resized(logits.to(torch.promote_types(logits.dtype, torch.float32)), size)

    def loss(self, logits: Tensor, target: Tensor, checked: bool = False) -> TaskLoss:
        """Compare the output of :meth:`forward` with targets ``(N, c, H, W)`` of the same size.

        Args:
            logits: The output.
            target: The targets.
            checked: Whether :meth:`check_labels` has seen the labels.

        Raises:
            ValueError: If a target on the CPU names a class that the head does not have. (On a GPU that check would
                stall the device; the pipeline's ``CheckTargets`` finds such labels before.)
        """
        if not checked:
            self.check_labels(target)
        valid = valid_mask(self.spec, target)
        loss = self.criterion(logits, target, valid)
        return TaskLoss(loss if self.loss_weight == 1 else loss * self.loss_weight, valid.sum().to(loss.dtype))

    def decode(self, *views: Tensor) -> Tensor:
        """Predictions of the task from the raw outputs ``(N, C, H, W)`` for one or more views of the same images.

        See :func:`~mtl_plugins.models.heads.decoding.decode_views`.
        """
        return decode_views(self.spec, views)

    def check_labels(self, target: Tensor, found: Sequence[tuple[int, int]] | None = None) -> None:
        """Raise a UserError if a target names a class that the head does not have.

        Args:
            target: Targets ``(N, c, H, W)``; on another device than the CPU nothing is looked at.
            found: Lowest and highest label of each sample, where the pipeline has noted it: then only a wrong one is
                looked for in the target.
        """
        num_labels = self.num_labels
        if not self.spec.is_categorical or (found is None and target.device.type != 'cpu'):
            return
        if found is not None and all(low >= 0 and high < num_labels for low, high in found):
            return
        wrong = ((target < 0) | (target >= num_labels)) & (target != IGNORE_INDEX)
        if wrong.any():
            raise UserError(
                f'labels of task \'{self.task}\' must be 0..{num_labels - 1} or {IGNORE_INDEX} for "not labelled", but '
                f'found {target[wrong].unique()[:5].tolist()}; check num_classes and the label mapping of the dataset'
            )

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f'task={self.task!r}, features={self.features!r}, loss_weight={self.loss_weight}'


def _build_loss(task: str, cfg: dict[str, Any]) -> nn.Module:
    """Build a loss, after looking whether it takes what it is given."""
    cfg = dict(cfg)
    kind = MODELS.get(cfg['type']) if isinstance(cfg.get('type'), str) else cfg.get('type')
    if isinstance(kind, type):
        parameters = inspect.signature(kind).parameters
        unknown = [name for name in cfg if name != 'type' and name not in parameters]
        if unknown and not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            raise UserError(
                f"head of task '{task}': the loss {kind.__name__} takes no {', '.join(unknown)}; it takes "
                f'{", ".join(parameters) or "no arguments"}'
            )
    return MODELS.build(cfg)


def output_channels(task: str, num_classes: int | None = None, channels: int | None = None) -> int:
    """Channels of a task's prediction, after checking the two settings of its head against the kind of the task.

    Raises:
        KeyError: If the task is not known.
        ValueError: If a setting does not suit the task.
    """
    spec = get_task_spec(task)
    if spec.kind == 'classes':
        if not isinstance(num_classes, int) or not 1 <= num_classes <= IGNORE_INDEX or channels is not None:
            raise UserError(
                f"head of task '{spec.key}': give num_classes, an int from 1 to {IGNORE_INDEX} (the number of the "
                f"dataset's classes), and no channels, but got num_classes={num_classes!r}, channels={channels!r}"
            )
        return num_classes
    channels = spec.channels if channels is None else channels
    if spec.kind == 'regression':
        fits, allowed = isinstance(channels, int) and channels >= 1, 'an int of 1 or more'
    else:
        choice = (1, 2) if spec.kind == 'binary' else (spec.channels,)
        fits, allowed = channels in choice, ' or '.join(map(str, choice))
    if num_classes is not None or not fits:
        raise UserError(
            f"head of task '{spec.key}': a task of kind '{spec.kind}' takes no num_classes, and channels can only be "
            f'{allowed}, but got num_classes={num_classes!r}, channels={channels!r}'
        )
    return channels
