"""One backbone, one head per task."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel, ModuleDict
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mtl_plugins.errors import UserError, UserKeyError, UserTypeError
from mtl_plugins.methods.naming import near_matches
from mtl_plugins.models.backbones import TimmBackbone, map_channels
from mtl_plugins.models.decoders import PerTaskDecoder, TaskFeatures
from mtl_plugins.models.heads import TaskHead, output_channels
from mtl_plugins.registry import MODELS
from mtl_plugins.structures.fields import LABEL_RANGE
from mtl_plugins.utils.init_files import init_files_fit

from .inference import InferenceSettings, check_tasks, predictions
from .regions import content_region, cut_padded_targets, output_size
from .sizes import fit_sizes
from .targets import stack_targets


class Features(NamedTuple):
    """What heads can choose from: the maps of the backbone, and the decoder's output if some head wants it.

    A backbone with adapters of the tasks gives a dict of such maps; then the decoder runs for each task by itself.
    """

    maps: tuple[Tensor, ...] | dict[str, tuple[Tensor, ...]]
    decoded: Any


@MODELS.register_module()
class MultiTaskSegmentor(BaseModel):
    """Dense multi-task model: backbone, decoder, one head per task.

    The losses are ``{'<task>.loss': scalar, '<task>.num_valid': scalar}`` for the tasks that the batch has targets for:
    the mean over the valid pixels, and their number. A sample may lack any of the targets. The auxiliary predictions of
    a :class:`~mtl_plugins.models.PerTaskDecoder` add ``'<task>.loss_<name>'`` on the same pixels; the loss of the task
    is the sum.

    Args:
        backbone: Config of the backbone, of ours, of mmseg or any other, which returns a map or a sequence of maps; see
            :func:`~mtl_plugins.models.backbones.map_channels`.
        heads: Task key -> config of its head, ``mtl_plugins.TaskHead`` unless ``type`` says otherwise. ``task`` and
            ``in_channels`` are filled in. The order is the order of the tasks everywhere.
        decoder: Config of what makes one feature map from those of the backbone; None for
            :class:`~mtl_plugins.models.ConcatDecoder`. ``in_channels`` is filled in, and for one with a map per task
            (:class:`~mtl_plugins.models.PerTaskDecoder`) ``tasks``. Not built if no head uses it.
        data_preprocessor: Config of the data preprocessor.
        train_cfg: Kept for the conventions of OpenMMLab; not used.
        test_cfg: How predictions are made: ``mode='whole'`` (default) or ``'slide'`` with ``crop_size`` and ``stride``,
            ``flip_tta``, ``tasks``; see :class:`~mtl_plugins.models.segmentors.inference.InferenceSettings`. The
            attribute ``inference`` holds them and may be replaced at any time.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        KeyError: If a task is not known.
        ValueError: If there is no head, or if channels cannot be derived.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        heads: dict[str, dict[str, Any]],
        decoder: dict[str, Any] | None = None,
        data_preprocessor: dict[str, Any] | nn.Module | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: dict[str, Any] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if isinstance(data_preprocessor, dict):
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor, init_cfg)
        if not heads:
            raise UserError('MultiTaskSegmentor: heads must name at least one task, for example dict(depth=dict())')
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg
        self.backbone = MODELS.build(_with_tasks(backbone, heads))
        wanted = {cfg.get('features', 'decoder') for cfg in heads.values()}
        channels = {'maps': map_channels(self.backbone) if wanted & {'last', 'maps'} else None}
        channels['last'] = channels['maps'] and channels['maps'][-1]
        self.decoder = self._build_decoder(decoder, heads) if 'decoder' in wanted else None
        channels['decoder'] = getattr(self.decoder, 'out_channels', None)
        self.heads = ModuleDict({task: self._build_head(task, cfg, channels) for task, cfg in heads.items()})
        self.inference = InferenceSettings.from_cfg(test_cfg)
        check_tasks(self.inference, self.tasks)
        fit_sizes(self.backbone, self.data_preprocessor, self.inference)
        self._active: frozenset[str] | None = None
        self._warned_without_targets = False

    @property
    def tasks(self) -> tuple[str, ...]:
        """Keys of the tasks, in the order of the config."""
        return tuple(self.heads)

    def set_active_tasks(self, tasks: Iterable[str] | None) -> None:
        """Choose the tasks whose losses come with a graph in the following forwards.

        The other ("idle") heads, and layers of the decoder for them alone, run under ``torch.no_grad()``, still in
        training mode, and their losses come without a graph: they are measured, but cost no memory, get no gradient.

        Args:
            tasks: Keys of the active tasks; None for all.

        Raises:
            KeyError: If the model has no head for a task.
            TypeError: If ``tasks`` is a string instead of several.
        """
        if isinstance(tasks, str):
            raise UserTypeError(f'set_active_tasks takes several task names or None, but got the string {tasks!r}')
        active = None if tasks is None else frozenset(tasks)
        for task in sorted((active or frozenset()) - set(self.heads)):
            near = near_matches(task, self.tasks, 'its tasks')
            raise UserKeyError(f"set_active_tasks: the model has no task '{task}': {near}")
        self._active = active
        for part in (self.backbone, self.decoder):
            if isinstance(part, TimmBackbone | PerTaskDecoder):
                part.set_active_tasks(active)

    def forward(
        self, inputs: Tensor, data_samples: Sequence[SegDataSample] | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[SegDataSample]:
        """Run the model on a batch from the data preprocessor.

        Args:
            inputs: Images ``(N, 3, H, W)``.
            data_samples: One per image; needed for ``'loss'``.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'`` (raw outputs ``{task: (N, C, H, W)}``).

        Raises:
            ValueError: If ``mode`` is another, or ``data_samples`` do not suit it.
        """
        if data_samples is not None and len(data_samples) != len(inputs):
            raise ValueError(f'got {len(inputs)} images, but {len(data_samples)} data samples')
        if mode == 'loss':
            if data_samples is None:
                raise UserError("mode='loss' needs data_samples with targets")
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            return dict(self._raw_outputs(inputs, self.tasks))
        raise ValueError(f"mode must be 'loss', 'predict' or 'tensor', but got {mode!r}")

    def extract_features(self, inputs: Tensor) -> Features:
        """Maps of the backbone and, if some head wants it, the output of the decoder."""
        weight = next((p for p in self.backbone.parameters() if p.ndim == 4 and min(p.shape) > 1), None)
        if weight is not None and weight.is_contiguous(memory_format=torch.channels_last) > weight.is_contiguous():
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        maps = self.backbone(inputs)
        if isinstance(maps, Mapping):
            return Features(dict(maps), None)
        maps = (maps,) if isinstance(maps, Tensor) else tuple(maps)
        return Features(maps, None if self.decoder is None else self.decoder(maps))

    def loss(self, inputs: Tensor, data_samples: Sequence[SegDataSample]) -> dict[str, Tensor]:
        """Losses and numbers of valid pixels of the tasks that the batch has targets for.

        Raises:
            ValueError: If targets have the wrong shape, type or classes.
        """
        features = self.extract_features(inputs)
        losses = {}
        for head in self.heads.values():
            target = stack_targets(
                head.spec, data_samples, tuple(inputs.shape[-2:]), inputs.device, head.target_channels
            )
            if target is not None:
                self._check_labels(head, target, data_samples)
                losses.update(self._task_losses(head, features, target))
        if not losses:
            self._warn_without_targets(data_samples)
        return losses

    def predict(self, inputs: Tensor, data_samples: Sequence[SegDataSample] | None = None) -> list[SegDataSample]:
        """Set ``pred_<task>`` of every sample, cut to the image without padding and on the grid of its targets.

        Without targets the grid is that of the original image (``ori_shape``). Targets that were padded together with
        the image are cut as well. The attribute ``inference`` decides about windows and mirrored images.

        Returns:
            The data samples; new ones if none were given.
        """
        samples = [SegDataSample() for _ in inputs] if data_samples is None else list(data_samples)
        input_size = tuple(inputs.shape[-2:])
        regions = [content_region(sample, input_size) for sample in samples]
        sizes = [
            output_size(sample, index, self.tasks, region, input_size)
            for index, (sample, region) in enumerate(zip(samples, regions))
        ]
        for task, maps in predictions(self._raw_outputs, self.heads, inputs, regions, sizes, self.inference):
            for sample, data in zip(samples, maps):
                sample.set_data({f'pred_{task}': PixelData(data=data)})
        for sample, region, size in zip(samples, regions, sizes):
            cut_padded_targets(sample, self.tasks, region, size)
        return samples

    def _raw_outputs(self, inputs: Tensor, tasks: Sequence[str] | None = None) -> Iterator[tuple[str, Tensor]]:
        """Raw outputs ``(N, C, H, W)``, one task after the other; those of ``inference`` if none are named."""
        features = self.extract_features(inputs)
        for task in tasks or self.inference.tasks or self.tasks:
            head = self.heads[task]
            yield task, head(self._choose(features, head), inputs.shape[-2:])

    def init_weights(self) -> None:
        """Draw or load the weights; a file named in an ``init_cfg`` that does not fit its part is an error."""
        with init_files_fit(self):
            super().init_weights()

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum the losses; see :meth:`mmengine.model.BaseModel.parse_losses`.

        A batch without any target, which one of several processes may meet, has a loss of 0 without graph.
        """
        if not losses:
            zero = torch.zeros((), device=next(self.parameters()).device)
            return zero, dict(loss=zero)
        return super().parse_losses(losses)

    def _task_losses(self, head: TaskHead, features: Features, target: Tensor) -> dict[str, Tensor]:
        # A method of its own, so that the full-size output of one head is freed before the next head runs.
        task, size = head.task, tuple(target.shape[-2:])
        active = self._active is None or task in self._active
        with torch.set_grad_enabled(active and torch.is_grad_enabled()):
            final = head.loss(head(self._choose(features, head), size), target, checked=True)
            losses = {f'{task}.loss': final.loss, f'{task}.num_valid': final.num_valid}
            auxiliary = self._auxiliary(features, head)
            for name, weight in self.decoder.aux_weights(auxiliary).items() if auxiliary else ():
                loss = head.loss(head.resize(auxiliary[name][task], size), target, checked=True).loss
                losses[f'{task}.loss_{name}'] = loss * weight
        return losses

    def _check_labels(self, head: TaskHead, target: Tensor, samples: Sequence[SegDataSample]) -> None:
        """Once per batch, however many forwards it takes."""
        fields = [sample.get(f'gt_{head.task}') for sample in samples]
        first = next(field for field in fields if field is not None).data
        mark = (head.num_labels, first._version) if head.spec.is_categorical else None
        if getattr(first, 'labels_checked_for', None) == mark:
            return
        notes = [sample.metainfo.get(LABEL_RANGE, {}) for sample, field in zip(samples, fields) if field is not None]
        known = all(head.task in note for note in notes)
        head.check_labels(target, [note[head.task] for note in notes] if known else None)
        first.labels_checked_for = mark

    def _choose(self, features: Features, head: TaskHead) -> Tensor | tuple[Tensor, ...]:
        maps, decoded = features
        if isinstance(maps, Mapping):
            maps = maps[head.task]
            decoded = self.decoder(maps) if head.features == 'decoder' else None
        if head.features == 'decoder':
            return decoded.maps[head.task] if isinstance(decoded, TaskFeatures) else decoded
        return maps if head.features == 'maps' else maps[-1]

    @staticmethod
    def _auxiliary(features: Features, head: TaskHead) -> dict[str, dict[str, Tensor]]:
        if head.features == 'decoder' and isinstance(features.decoded, TaskFeatures):
            return features.decoded.auxiliary
        return {}

    def _build_decoder(self, cfg: dict[str, Any] | None, heads: dict[str, dict[str, Any]]) -> nn.Module:
        cfg = dict(type='mtl_plugins.ConcatDecoder') if cfg is None else dict(cfg)
        if 'in_channels' not in cfg:
            cfg['in_channels'] = map_channels(self.backbone)
        kind = MODELS.get(cfg['type']) if isinstance(cfg.get('type'), str) else cfg.get('type')
        if isinstance(kind, type) and issubclass(kind, PerTaskDecoder):
            if getattr(getattr(self.backbone, 'adapters', None), 'tasks', ()):
                raise UserError(
                    f'MultiTaskSegmentor: {kind.__name__} makes the maps of all tasks out of those of the backbone, '
                    'which with backbone.adapters.task_rank are several; set task_rank=0, or use ConcatDecoder'
                )
            if 'tasks' in cfg:
                raise UserError(f'MultiTaskSegmentor: decoder.tasks comes from heads, but got {cfg["tasks"]!r}')
            cfg['tasks'] = {
                task: output_channels(task, head.get('num_classes'), head.get('channels'))
                for task, head in heads.items()
                if head.get('features', 'decoder') == 'decoder'
            }
        return MODELS.build(cfg)

    @staticmethod
    def _build_head(task: str, cfg: dict[str, Any], channels: dict[str, Any]) -> nn.Module:
        cfg = dict(type='mtl_plugins.TaskHead', task=task) | dict(cfg)
        if cfg['task'] != task:
            raise UserError(f"MultiTaskSegmentor: heads['{task}'] is for task {cfg['task']!r}; the two must agree")
        if 'in_channels' not in cfg:
            found = channels.get(cfg.get('features', 'decoder'))
            cfg['in_channels'] = found[task] if isinstance(found, Mapping) else found
        return MODELS.build(cfg)

    def _warn_without_targets(self, samples: Sequence[SegDataSample]) -> None:
        if self._warned_without_targets:
            return
        self._warned_without_targets = True
        found = sorted({key for sample in samples for key in sample.keys() if key.startswith('gt_')})  # noqa: SIM118
        print_log(
            f'a batch has no target for any of the tasks {self.tasks} (its targets: {found or "none"}); it gives no '
            'loss. If this is not on purpose, check the tasks of the dataset. This is logged once.',
            logger='current', level=30,
        )  # fmt: skip


def _with_tasks(backbone: dict[str, Any], heads: Iterable[str]) -> dict[str, Any]:
    """The config of a backbone, with the tasks for its adapters."""
    if not backbone.get('adapters'):
        return backbone
    if 'tasks' in backbone['adapters']:
        raise UserError('MultiTaskSegmentor: backbone.adapters.tasks comes from heads; leave it out')
    return {**backbone, 'adapters': dict(backbone['adapters'], tasks=tuple(heads))}
