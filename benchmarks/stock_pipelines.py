"""The training pipelines assembled from mmcv's and mmseg's own transforms, for comparison with ours.

Stock transforms load images, class maps and depth; resize, crop and flip whatever a sample lists in ``seg_fields``, and
distort colours. For the rest there are small classes below, written the plain way and without any checks: loading of
the other targets, padding of more than one map, packing of more than one map. What stock transforms do not do at all is
left out, so that they have *less* to do: depth is not divided by the scale, normals are neither brought to length 1 nor
negated by flips, pixels without geometry are not looked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import mmcv
import numpy as np
import scipy.io
import scipy.ndimage
import skimage.morphology
import torch
from mmcv.transforms import LoadImageFromFile, RandomResize
from mmengine.dataset import BaseDataset
from mmengine.structures import PixelData
from mmseg.datasets.transforms import (
    LoadAnnotations,
    LoadDepthAnnotation,
    PackSegInputs,
    PhotoMetricDistortion,
    RandomCrop,
    RandomFlip,
    Resize,
)

from mtl_plugins.datasets.pascal_context.classes import NORMALS_CLASSES
from mtl_plugins.datasets.pascal_context.parts import read_part_map
from mtl_plugins.datasets.taskonomy.decoding import CURVATURE_MEAN, CURVATURE_STD
from mtl_plugins.task_specs import get_task_spec

Results = dict[str, Any]
NO_255 = ('gt_normals', 'gt_depth_map')
STOCK_NAMES = {'gt_seg_map': 'gt_semseg', 'gt_depth_map': 'gt_depth'}


class StockDataset(BaseDataset):
    """Samples that our dataset has found, for a pipeline that takes stock keys.

    Args:
        samples: ``img_path`` and ``files`` of each sample, and what else its loaders need.
        pipeline: Transforms, built.
    """

    def __init__(self, samples: Sequence[Results], pipeline: Sequence[Callable]) -> None:
        self.samples = list(samples)
        super().__init__(data_root='', data_prefix={}, pipeline=list(pipeline))

    def load_data_list(self) -> list[Results]:
        """The samples under the keys of the stock loaders."""
        return [
            {
                **sample,
                'seg_map_path': sample['files'].get('semseg'),
                'depth_map_path': sample['files'].get('depth'),
                'label_map': None,
                'reduce_zero_label': False,
                'seg_fields': [],
            }
            for sample in self.samples
        ]

    def parse_data_info(self, raw_data_info: Results) -> Results:
        """Unchanged."""
        return raw_data_info


class Load:
    """Any target: ``function(results)`` returns the arrays by task."""

    def __init__(self, function: Callable[[Results], dict[str, np.ndarray]]) -> None:
        self.function = function

    def __call__(self, results: Results) -> Results:
        """Load."""
        for task, target in self.function(results).items():
            # As the programs of the papers do: nearest neighbour, whatever the target.
            if target.shape[:2] != results['img_shape']:
                target = mmcv.imresize(target, results['img_shape'][::-1], interpolation='nearest')
            results[f'gt_{task}'] = target
            results['seg_fields'].append(f'gt_{task}')
        return results


class RatioResize(RandomResize):
    """``RandomResize`` relative to each image's own size, which stock knows for images of one size only."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__(scale=(1, 1), ratio_range=(low, high), resize_type='mmseg.Resize', keep_ratio=True)

    def transform(self, results: Results) -> Results:
        """Resize."""
        self.scale = results['img_shape'][::-1]
        return super().transform(results)


class PadAll:
    """mmcv's ``Pad`` for all targets."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def __call__(self, results: Results) -> Results:
        """Pad."""
        results['img'] = mmcv.impad(results['img'], shape=self.size, pad_val=0)
        for key in results['seg_fields']:
            results[key] = mmcv.impad(results[key], shape=self.size, pad_val=0 if key in NO_255 else 255)
        results['pad_shape'] = self.size
        return results


class PackAll(PackSegInputs):
    """``PackSegInputs`` for all targets: class maps as int64, as there, the others as float32."""

    def transform(self, results: Results) -> Results:
        """Pack image and targets."""
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        packed = super().transform({key: value for key, value in results.items() if key in self.meta_keys})
        for key in results['seg_fields']:
            array = results[key]
            channels = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
            name = STOCK_NAMES.get(key, key)
            wanted = np.int64 if get_task_spec(name[3:]).is_categorical else np.float32
            data = torch.from_numpy(np.ascontiguousarray(channels).astype(wanted, copy=False))
            packed['data_samples'].set_data({name: PixelData(data=data)})
        packed['inputs'] = torch.from_numpy(image)
        return packed


def read(path: str, flag: str = 'unchanged') -> np.ndarray:
    """An image as mmcv reads it, colours in RGB order."""
    return mmcv.imread(path, flag=flag, channel_order='rgb' if flag == 'color' else 'bgr')


def normals_of(path: str) -> np.ndarray:
    return read(path, 'color').astype(np.float32) * 2 / 255 - 1


def nyud(results: Results) -> dict[str, np.ndarray]:
    files = results['files']
    return dict(normals=normals_of(files['normals']), edge=(read(files['edge']) > 127).astype(np.uint8))


def pascal(results: Results) -> dict[str, np.ndarray]:
    """As the programs of the papers load it, LabelMap only once."""
    files = results['files']
    labels = scipy.io.loadmat(files['edge'][0])['LabelMap']
    normals = normals_of(files['normals'][0])
    normals[~np.isin(labels, NORMALS_CLASSES)] = 0
    edges = skimage.morphology.thin(np.abs(cv2.Laplacian(labels.astype(np.float64), cv2.CV_64F)) > 0)
    parts = read_part_map(files['human_parts'][0])
    return dict(
        human_parts=np.zeros((512, 512), np.uint8) if parts is None else parts,
        sal=(read(files['sal'][0]) > 127).astype(np.uint8),
        normals=normals,
        edge=edges.astype(np.uint8),
    )


TASKONOMY_FULL = {'edge_occlusion': 409.6, 'edge_texture': 5242.88, 'keypoints2d': 327.68, 'keypoints3d': 65536.0}


def taskonomy(results: Results) -> dict[str, np.ndarray]:
    """The formulas of the released program; occlusion edges are blurred after the resizing, see :class:`Blur`."""
    targets = {}
    for task, path in results['files'].items():
        codes = read(path, 'color' if task in ('normal', 'principal_curvature', 'reshading') else 'unchanged')
        codes = codes.astype(np.float32)
        if task.startswith('depth'):
            targets[task] = np.log(1 + codes) / np.float32(np.log(65536))
        elif task == 'principal_curvature':
            targets[task] = (codes[..., :2] - np.float32(CURVATURE_MEAN)) / np.float32(CURVATURE_STD)
        elif task in TASKONOMY_FULL:
            full = TASKONOMY_FULL[task]
            limited = codes if task == 'edge_occlusion' else np.clip(codes, 0, full)
            targets[task] = limited / np.float32(full) * 2 - 1
        else:
            targets[task] = codes * 2 / 255 - 1
    return targets


class Blur:
    """The Gaussian over occlusion edges."""

    def __call__(self, results: Results) -> Results:
        """Blur."""
        key = 'gt_edge_occlusion'
        results[key] = scipy.ndimage.gaussian_filter(results[key], 4)
        return results


def rooms(results: Results) -> dict[str, np.ndarray]:
    """From the cache's own files."""
    with np.load(results['cache_path'], allow_pickle=False) as arrays:
        results['img'] = np.ascontiguousarray(arrays['img'][..., ::-1])
        results['img_shape'] = results['img'].shape[:2]
        return {
            task: arrays[f'gt_{task}']
            if get_task_spec(task).is_categorical
            else arrays[f'gt_{task}'].astype(np.float32)
            for task in results['tasks']
        }


class RoomsCrop(RandomCrop):
    """``RandomCrop`` under the name that the class map has here."""

    def transform(self, results: Results) -> Results:
        """Crop."""
        results['gt_seg_map'] = results['gt_semseg']
        return super().transform(results)


def augmentations(size: tuple[int, int], low: float = 0.5, high: float = 2.0) -> list[Callable]:
    return [
        RatioResize(low, high),
        RandomCrop(size, cat_max_ratio=0.75),
        RandomFlip(prob=0.5),
        PhotoMetricDistortion(),
    ]


class NYUDSemseg(LoadAnnotations):
    """``LoadAnnotations`` with the flag that its datasets normally set."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # it would rather have the flag from its own datasets
            super().__init__(reduce_zero_label=True)

    def transform(self, results: Results) -> Results:
        """Load."""
        results['reduce_zero_label'] = True
        return super().transform(results)


class FirstFile:
    """Takes the one file out of the tuples that our dataset lists per task."""

    def __call__(self, results: Results) -> Results:
        """Set the path."""
        results['seg_map_path'] = results['files']['semseg'][0]
        return results


def stock_pipeline(name: str) -> tuple[list[Callable], list[Callable], list[Callable]]:
    """Loading, random transforms, and what follows them, of one dataset's training pipeline.

    Args:
        name: ``'nyud'``, ``'pascal_context'``, ``'taskonomy'`` or ``'rooms'``.
    """
    if name == 'nyud':
        load = [LoadImageFromFile(), NYUDSemseg(), LoadDepthAnnotation(decode_backend='numpy'), Load(nyud)]
        return load, augmentations((448, 576)), [PadAll((448, 576)), PackAll()]
    if name == 'pascal_context':
        load = [LoadImageFromFile(), FirstFile(), LoadAnnotations(), Load(pascal)]
        return load, augmentations((512, 512)), [PadAll((512, 512)), PackAll()]
    if name == 'taskonomy':
        load = [LoadImageFromFile(), Load(taskonomy), Resize(scale=(256, 256), keep_ratio=False), Blur()]
        return load, [RandomFlip(prob=0.5)], [PackAll()]
    crop = RoomsCrop((96, 96))
    return [Load(rooms)], [RatioResize(1.0, 1.5), crop, RandomFlip(prob=0.5), PhotoMetricDistortion()], [PackAll()]
