"""Datasets, data loaders and what one batch holds."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from mtl_plugins.errors import UserError
from mtl_plugins.models.losses import valid_mask
from mtl_plugins.task_specs import IGNORE_INDEX, TASK_SPECS

from .report import Step


def show_dataset(step: Step, dataset: Any, loader: Any) -> None:
    """Length and tasks of a dataset."""
    size = loader.get('batch_size', 1)
    samples, workers = len(dataset), loader.get('num_workers', 0)
    step.summary = f'{type(dataset).__name__}, {samples:,} samples'
    step.say(f'{size} per batch, {-(-samples // size):,} batches per epoch and process, {workers} worker processes')
    meta = getattr(dataset, 'metainfo', None) or {}
    if meta.get('tasks'):
        step.say(f'tasks: {", ".join(meta["tasks"])}')
    for part in getattr(dataset, 'datasets', ()):
        tasks = (getattr(part, 'metainfo', None) or {}).get('tasks')
        step.say(f'{type(part).__name__}, {len(part):,} samples: {", ".join(tasks or ["no tasks named"])}')


def take_batch(step: Step, loader: DataLoader) -> Any:
    """Draw two batches, of which the second is timed, and describe the first."""
    iterator = iter(loader)
    batch = next(iterator)
    start = time.perf_counter()
    try:
        next(iterator)
        seconds = f'{time.perf_counter() - start:.3f} s per batch in one process'
    except StopIteration:
        seconds = 'a single batch per epoch'
    inputs = batch.get('inputs') if isinstance(batch, dict) else None
    if inputs is None:
        step.summary = f'{type(batch).__name__}, loaded in {seconds}'
        return batch
    shapes = sorted({tuple(image.shape) for image in inputs})
    step.summary = f'{len(inputs)} images of {" or ".join("x".join(map(str, shape)) for shape in shapes)}, {seconds}'
    order = (getattr(loader.dataset, 'metainfo', None) or {}).get('tasks') or ()
    _show_targets(step, batch.get('data_samples') or (), order)
    return batch


def _show_targets(step: Step, samples: Any, order: Sequence[str]) -> None:
    targets: dict[str, list[torch.Tensor]] = {task: [] for task in order}
    for sample in samples:
        for key in sample.keys() if hasattr(sample, 'keys') else ():
            data = getattr(sample.get(key), 'data', None)
            if key.startswith('gt_') and isinstance(data, torch.Tensor):
                targets.setdefault(key.removeprefix('gt_'), []).append(data)
    rows = []
    for task, maps in targets.items():
        if not maps:
            step.note(f"no image of this batch has targets for task '{task}'")
            continue
        kind, unit, labelled, values = _describe(task, maps)
        rows.append((task, kind, f'{len(maps)} of {len(samples)}', labelled, f'{values} {unit}'.rstrip()))
        if labelled == '0%':
            step.note(f"task '{task}' has no labelled pixel in this batch")
    if rows:
        step.table('task', 'kind', 'images', 'labelled', 'values', rows=rows)


def _describe(task: str, maps: list[torch.Tensor]) -> tuple[str, str, str, str]:
    """Kind, unit, share of labelled pixels and values of one task in a batch."""
    spec = TASK_SPECS.get(task)
    if spec is not None:
        masks = [valid_mask(spec, data[None])[0] for data in maps]
    elif maps[0].is_floating_point():
        masks = [torch.isfinite(data).all(0) for data in maps]
    else:
        masks = [data[0] != IGNORE_INDEX for data in maps]
    total = sum(mask.numel() for mask in masks)
    labelled = f'{sum(int(mask.sum()) for mask in masks) / total:.0%}'
    values = np.concatenate([data[:, mask].reshape(-1).numpy() for data, mask in zip(maps, masks)])
    kind, unit = (
        (spec.kind, 'm' if spec.kind == 'depth' else '')
        if spec is not None
        else ('float' if maps[0].is_floating_point() else 'ids', '')
    )
    if not values.size:
        return kind, unit, labelled, '-'
    if maps[0].is_floating_point():
        return kind, unit, labelled, f'{values.min():.4g} .. {values.max():.4g}'
    ids = np.unique(values)
    shown = ', '.join(map(str, ids)) if len(ids) <= 12 else f'{len(ids)} ids, {ids[0]} .. {ids[-1]}'
    return kind, '', labelled, shown


def compare_tasks(step: Step, model: Any, dataset: Any) -> None:
    """Note where the tasks of model and data do not fit.

    Raises:
        ValueError: If a head has fewer classes, or another number of channels, than the data.
    """
    meta = getattr(dataset, 'metainfo', None) or {}
    of_data, of_model = meta.get('tasks'), getattr(model, 'tasks', None)
    if not of_data or not of_model:
        return
    without = [task for task in of_model if task not in of_data]
    loaded = [task for task in of_data if task not in of_model]
    if without:
        step.note(f'no data for {", ".join(without)}: these heads are not trained (dataset.tasks)')
    if loaded:
        step.note(f'no head for {", ".join(loaded)}: these targets are loaded and not used')
    head = getattr(model, 'heads', {})
    for task, count in (meta.get('channels') or {}).items():
        channels = getattr(head[task], 'out_channels', None) if task in head else None
        if channels is not None and channels != count:
            raise UserError(
                f"task '{task}': the head predicts {channels} channels, the data have {count}; set "
                f'model.heads.{task}.channels={count}'
            )
    for task, classes in (meta.get('classes') or {}).items():
        channels = getattr(head[task], 'out_channels', None) if task in head else None
        if channels is not None and channels != len(classes):
            problem = f"task '{task}': the head predicts {channels} classes, the data have {len(classes)}"
            if channels < len(classes):
                raise UserError(f'{problem}; set model.heads.{task}.num_classes={len(classes)}')
            step.note(problem)
