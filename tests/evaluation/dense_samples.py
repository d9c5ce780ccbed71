"""Random samples with ignore regions, shaped as the model hands them over."""

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

META = dict(classes=dict(semseg=('wall', 'floor', 'chair', 'lamp', 'never')), tasks=('semseg', 'depth'))
SIZE = (17, 23)


def sample(task, gt, pred, index=0):
    """A SegDataSample of one task; ``gt`` or ``pred`` None leaves the field out."""
    result = SegDataSample(metainfo=dict(sample_idx=index, img_path=f'image_{index}.png'))
    for name, value in ((f'gt_{task}', gt), (f'pred_{task}', pred)):
        if value is not None:
            value = value if isinstance(value, torch.Tensor) else torch.as_tensor(np.ascontiguousarray(value))
            result.set_field(PixelData(data=value if value.ndim == 3 else value[None]), name)
    return result


def random_pair(kind, rng, *, size=SIZE, channels=1, classes=4, labelled=0.8):
    """Random target and prediction (C, H, W) of a kind; a share of the target is not labelled."""
    hidden = rng.random(size) > labelled
    if kind == 'classes':
        gt, pred = rng.integers(0, classes, (2, 1, *size))
        gt = gt.astype(np.uint8)
        gt[0, hidden] = 255
        return gt, pred
    if kind == 'binary':
        gt = (rng.random((1, *size)) < 0.3).astype(np.uint8)
        pred = np.clip(0.4 * gt + 0.6 * rng.random((1, *size)), 0, 1).astype(np.float32)
        gt[0, hidden] = 255
        return gt, pred
    if kind == 'depth':
        gt = rng.uniform(0.5, 7, (1, *size)).astype(np.float32)
        pred = np.maximum(gt + rng.normal(0, 1.5, gt.shape), 0).astype(np.float32)
        gt[0, hidden] = np.where(rng.random(hidden.sum()) < 0.5, 0, np.nan)
        return gt, pred
    if kind == 'normals':
        gt = rng.normal(size=(3, *size)).astype(np.float32)
        pred = (gt + rng.normal(0, 0.7, gt.shape)).astype(np.float32)
        gt /= np.linalg.norm(gt, axis=0)
        gt[:, hidden] = 0
        return gt, pred
    gt = rng.random((channels, *size)).astype(np.float32)
    pred = (gt + rng.normal(0, 0.3, gt.shape)).astype(np.float32)
    gt[rng.integers(channels), hidden] = np.nan
    return gt, pred


def evaluate(metric, samples):
    """What the metric says about the samples, through MMEngine's own calls."""
    metric.dataset_meta = META
    for one in samples:
        metric.process(None, [one.to_dict()])
    return metric.evaluate(len(samples))
