"""Predictions of all tasks for any picture, in three lines of Python."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.infer import BaseInferencer
from mmseg.structures import SegDataSample

from mtl_plugins.datasets.photo_files import UnreadablePhotoError
from mtl_plugins.datasets.transforms import MultiTaskPad, MultiTaskResize, PackMultiTaskInputs
from mtl_plugins.errors import UserError, UserTypeError
from mtl_plugins.models import InferenceSettings
from mtl_plugins.models.segmentors.inference import check_tasks
from mtl_plugins.registry import INFERENCERS
from mtl_plugins.structures.fields import as_array, read_field
from mtl_plugins.task_specs import get_task_spec
from mtl_plugins.utils.parallel import tracked
from mtl_plugins.visualization import painted_range, prediction_panel

from .files import PredictionFolder, as_map
from .loading import find_config, load_model, size_divisor
from .options import checked
from .sizes import content_size, padding_of, round_up, training_size
from .sources import Entry, Inputs

MOST_DRAWN = 1440
"""About the longest side in pixels of what panels are made from."""
VIDEO_LINES = 8
"""Lines of the legends in videos, whose frames are of one size whatever they show."""


class Prediction(NamedTuple):
    """What came out for one picture.

    Attributes:
        entry: Where it came from.
        sample: The data sample with ``pred_<task>``, on the CPU, at the size of the picture.
    """

    entry: Entry
    sample: SegDataSample

    def maps(self, tasks: Sequence[str]) -> dict[str, np.ndarray]:
        """Task -> map, see :func:`~mtl_plugins.inference.files.as_map`."""
        return {task: as_map(get_task_spec(task), read_field(self.sample, f'pred_{task}')) for task in tasks}


@INFERENCERS.register_module()
class MultiTaskInferencer(BaseInferencer):
    """Predicts pictures, folders and videos with a trained :class:`~mtl_plugins.models.MultiTaskSegmentor`.

    ::

        inferencer = MultiTaskInferencer('config.py', 'checkpoint.pth')
        result = inferencer('photo.jpg')                # result['predictions'][0]['depth'] is an array (H, W) in metres
        inferencer('folder', out_dir='out')             # panels, raw predictions, predictions.json

    Sizes: a picture is shrunk until it fits into the size of the training images (``resize``), padded with the mean
    colour as in the test pipeline and to a multiple of the patch size, predicted, cut, and the raw outputs are resized
    to the picture's own size before they are decoded. Only pictures that need the same network size share a batch, so
    a prediction does not depend on what else is in the batch.

    Args:
        model: Config file, name of a shipped config, or a config.
        weights: Checkpoint, a file or a URL; loaded without running code. Heads it has no weights for are left out.
        device: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, ...; None for the best there is.
        scope: Not needed; kept for the conventions of MMEngine.
        show_progress: Whether to draw a progress bar, if there is a terminal.
        tasks: Tasks to predict; None for all of the model.
        cfg_options: Entries of the config to change, as MMEngine's ``--cfg-options``.

    Attributes:
        tasks: The tasks that are predicted.
        meta: ``classes`` and ``palettes`` of the tasks, from the checkpoint.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        KeyError: If the model has no head for a task.
        ValueError: If the weights do not fit the model, or the device cannot be used.
    """

    preprocess_kwargs = {'resize'}
    forward_kwargs = {'mode', 'crop_size', 'stride', 'flip_tta'}
    visualize_kwargs = {'return_vis', 'panels', 'columns'}
    postprocess_kwargs = {'out_dir', 'raw', 'frames', 'keep'}

    def __init__(
        self,
        model: str | os.PathLike | Mapping[str, Any] | Config,
        weights: str | os.PathLike | None = None,
        device: str | None = None,
        scope: str | None = None,
        show_progress: bool = True,
        tasks: Sequence[str] | None = None,
        cfg_options: dict[str, Any] | None = None,
    ) -> None:
        if isinstance(tasks, str):
            raise UserTypeError(f'tasks must be several names or None, but got the string {tasks!r}')
        if model is None:
            raise UserTypeError('model must be given: a checkpoint alone would have to run code to make a config')
        cfg = find_config(model, cfg_options)
        tasks = checked(tasks=tasks, show_progress=show_progress)['tasks']
        self._asked = None if tasks is None else tuple(tasks)
        self._about = dict(
            config=str(model) if isinstance(model, str | os.PathLike) else None, checkpoint=weights and str(weights)
        )
        super().__init__(cfg, None if weights is None else str(weights), device, scope, show_progress)

    def __call__(
        self,
        inputs: Any,
        return_datasamples: bool = False,
        batch_size: int = 1,
        channel_order: str = 'bgr',
        fps: float | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Predict.

        Args:
            inputs: Path of a picture, a folder or a video; an array ``(H, W, 3)`` uint8; or a list of these.
            return_datasamples: Whether predictions are data samples with ``pred_<task>`` instead of arrays.
            batch_size: Most pictures at once.
            channel_order: Of arrays: ``'bgr'`` or ``'rgb'``.
            fps: Frames per second to take of a video, None for all.
            **kwargs: ``resize``: ``'fit'``, ``'none'`` (default with windows) or ``(height, width)``;
                ``mode``: ``'whole'`` or ``'slide'``, with ``crop_size`` (by default the size of the training images)
                and ``stride`` (by default two thirds of it); ``flip_tta``: average with the mirrored picture;
                ``return_vis``: return the panels; ``columns``: tasks side by side;
                ``out_dir``: folder for files, ``panels`` and ``raw`` (both True): which of them, ``frames``: also for
                single frames of videos, ``keep``: whether to return predictions that were written too, by default only
                for a single picture.

        Returns:
            ``predictions``: per picture a dict ``{task: array}``: classes ``(H, W)`` uint8, binary ``(H, W)``
            probability, depth ``(H, W)`` metres, normals ``(H, W, 3)``, regression ``(H, W)`` or ``(H, W, C)``;
            ``visualization``: panels, RGB uint8; ``sources``: what each of them belongs to; ``skipped``: pairs of an
            input that could not be read and the reason.

        Raises:
            UnreadablePhotoError: If no input at all can be read.
            FileNotFoundError, TypeError, ValueError: If an input or an option is wrong.
        """
        options = checked(batch_size=batch_size, return_datasamples=return_datasamples)
        batch_size, return_datasamples = options.values()
        known = self.preprocess_kwargs | self.forward_kwargs | self.visualize_kwargs | self.postprocess_kwargs
        preprocess, forward, visualize, postprocess = self._dispatch_kwargs(**checked(known, **kwargs))
        entries = Inputs(inputs, channel_order, fps)
        settings = self.settings(**forward)
        preprocess.setdefault('resize', 'none' if settings.mode == 'slide' else 'fit')
        out_dir, keep = postprocess.get('out_dir'), postprocess.get('keep')
        keep = keep if keep is not None else out_dir is None or len(entries) == 1
        result: dict[str, Any] = dict(predictions=[], visualization=[], sources=[], skipped=[])
        with ExitStack() as stack:
            folder = None
            if out_dir is not None:
                about = {**self._about, 'settings': {**dataclasses.asdict(settings), **preprocess}}
                options = {name: postprocess[name] for name in ('raw', 'frames') if name in postprocess}
                folder = stack.enter_context(PredictionFolder(out_dir, self.meta, about, **options))
                folder.skipped = result['skipped']
            self._ranges: dict[str, dict[str, tuple[float, float]]] = {}
            shown = tracked(entries, 'Inference', len(entries), stderr=True) if self.show_progress else iter(entries)
            for items, data in self.preprocess(shown, batch_size, result['skipped'], **preprocess):
                predictions = [
                    Prediction(entry, sample) for (entry, _), sample in zip(items, self.forward(data, **forward))
                ]
                drawn: list[np.ndarray | None] = [None] * len(items)
                written = folder is not None and visualize.get('panels', True)
                if written or visualize.get('return_vis'):
                    drawn = self.visualize(items, predictions, **visualize)
                if visualize.get('return_vis'):
                    result['visualization'] += drawn
                panels = drawn if written else [None] * len(items)
                self.postprocess(predictions, panels, return_datasamples, result=result, folder=folder, keep=keep)
            if result['skipped'] and not result['sources']:
                lines = '\n'.join(f'  {source}: {reason}' for source, reason in result['skipped'])
                raise UnreadablePhotoError(f'none of the inputs can be read:\n{lines}')
        result['outputs'] = [] if folder is None else [str(path) for path in folder.outputs()]
        return result

    def settings(
        self,
        mode: str | None = None,
        crop_size: Any = None,
        stride: Any = None,
        flip_tta: bool | None = None,
    ) -> InferenceSettings:
        """How to predict: what is given, else what the config says; window sizes rounded up to whole patches.

        Raises:
            ValueError: If windows are asked for and there is no size for them, or an option is wrong.
        """
        base = self._base
        mode = base.mode if mode is None else mode
        if mode == 'whole' and (crop_size is not None or stride is not None):
            raise UserError("crop_size and stride are those of windows and mean nothing here: give mode='slide', too")
        crop = crop_size or base.crop_size or (training_size(self.cfg) if mode == 'slide' else None)
        if mode == 'slide' and crop is None:
            raise UserError("mode='slide' needs crop_size=(height, width): the config does not tell a training size")
        settings = dataclasses.replace(
            base,
            mode=mode,
            crop_size=crop,
            stride=stride or (base.stride if crop_size is None else None),
            flip_tta=base.flip_tta if flip_tta is None else bool(flip_tta),
        )
        if crop is None:
            return settings
        return dataclasses.replace(settings, crop_size=round_up(settings.crop_size, size_divisor(self.model)))

    def preprocess(
        self,
        inputs: Iterator[Entry],
        batch_size: int = 1,
        skipped: list[tuple[str, str]] | None = None,
        resize: Any = 'fit',
    ) -> Iterator[tuple[list[tuple[Entry, np.ndarray]], dict[str, Any]]]:
        """Read, resize, pad and collate.

        Yields:
            Entries with their pictures (RGB), and the batch for :meth:`forward`.
        """
        items: list[tuple[Entry, np.ndarray]] = []
        packed: list[dict[str, Any]] = []
        for entry in inputs:
            try:
                bgr = entry.load()
            except UnreadablePhotoError as error:
                if skipped is None:
                    raise
                skipped.append((entry.source, str(error).removeprefix(f'cannot read {entry.source}: ')))
                continue
            one = self._pack(entry, bgr, resize)
            if packed and (len(packed) == batch_size or packed[-1]['inputs'].shape != one['inputs'].shape):
                yield items, self.collate_fn(packed)
                items, packed = [], []
            items.append((entry, np.ascontiguousarray(bgr[..., ::-1])))
            packed.append(one)
        if packed:
            yield items, self.collate_fn(packed)

    @torch.no_grad()
    def forward(self, inputs: dict[str, Any], **settings: Any) -> list[SegDataSample]:
        """Predict a batch of :meth:`preprocess`; see :meth:`settings`."""
        self.model.inference = self.settings(**settings)
        return [sample.cpu() for sample in self.model.test_step(inputs)]

    def visualize(
        self,
        inputs: Sequence[tuple[Entry, np.ndarray]],
        preds: Sequence[Prediction],
        return_vis: bool = False,
        panels: bool = True,
        columns: int = 6,
    ) -> list[np.ndarray]:
        """Draw one panel per picture, RGB; all frames of a video share the colour scale of its first."""
        drawn = []
        for (entry, image), pred in zip(inputs, preds):
            # Panels are much smaller than the photographs of today: most of their pixels need not be coloured at all.
            step = max(1, max(image.shape[:2]) // MOST_DRAWN)
            thin = {key: as_array(pred.sample.get(key))[:, ::step, ::step] for key in map('pred_{}'.format, self.tasks)}
            meta = {**self.meta, 'value_ranges': self._value_ranges(pred)}
            image = image[::step, ::step]
            lines = None if entry.video is None else VIDEO_LINES
            panel = prediction_panel(
                thin, self.tasks, image=image, meta=meta, columns=columns, title=entry.name, legend_lines=lines
            )
            drawn.append(panel)
        return drawn

    def postprocess(
        self,
        preds: Sequence[Prediction],
        visualization: Sequence[np.ndarray | None],
        return_datasamples: bool = False,
        *,
        result: dict[str, Any],
        folder: PredictionFolder | None = None,
        keep: bool = True,
    ) -> dict[str, Any]:
        """Write a batch into ``folder`` and add it to ``result``."""
        for pred, panel in zip(preds, visualization):
            maps = pred.maps(self.tasks)
            if folder is not None:
                folder.add(pred.entry, maps, panel)
            result['sources'].append(pred.entry.source)
            if keep:
                result['predictions'].append(pred.sample if return_datasamples else maps)
        return result

    def _init_model(self, cfg: Config, weights: str | None, device: str = 'cpu') -> torch.nn.Module:
        model, self.meta = load_model(cfg, weights, device, self._asked)
        base = model.inference if self._asked is None else dataclasses.replace(model.inference, tasks=self._asked)
        check_tasks(base, model.tasks)
        self._base = base
        self.tasks = base.tasks or model.tasks
        return model

    def _init_pipeline(self, cfg: Config) -> PackMultiTaskInputs:
        """The part that is the same for every picture; for the rest see :meth:`_pack`."""
        self._trained, self._padding = training_size(cfg), padding_of(cfg)
        return PackMultiTaskInputs()

    def _init_collate(self, cfg: Config) -> Any:
        return pseudo_collate

    def _init_visualizer(self, cfg: Config) -> None:
        """Panels need no visualizer of MMEngine."""

    def _pack(self, entry: Entry, bgr: np.ndarray, resize: Any) -> dict[str, Any]:
        shape = bgr.shape[:2]
        results = dict(img=bgr, img_path=entry.source, ori_shape=shape, img_shape=shape, seg_fields=[])
        content = content_size(shape, resize, self._trained)
        results = MultiTaskResize(content).transform(results)
        padding = dict(self._padding or {})
        least = padding.pop('size', content)
        least = (least, least) if isinstance(least, int) else least
        size = round_up(tuple(map(max, content, least)), size_divisor(self.model))
        return self.pipeline(MultiTaskPad(size, **padding).transform(results))

    def _value_ranges(self, pred: Prediction) -> dict[str, tuple[float, float]]:
        own = dict(self.meta.get('value_ranges') or {})
        if pred.entry.video is None:
            return own
        if pred.entry.video.name not in self._ranges:
            specs = [get_task_spec(task) for task in self.tasks]
            found = {spec.key: painted_range(spec, as_array(pred.sample.get(f'pred_{spec.key}'))) for spec in specs}
            self._ranges[pred.entry.video.name] = {task: span for task, span in found.items() if span is not None}
        return {**self._ranges[pred.entry.video.name], **own}
