"""Tiny segmentors and batches for the tests."""

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mtl_plugins.registry import MODELS
from mtl_plugins.task_specs import get_task_spec

HEADS = dict(semseg=dict(num_classes=5), depth={}, normals={}, edge={}, principal_curvature={})
BACKBONE = dict(type='mtl_plugins.TimmViT', img_size=(32, 48), embed_dim=32, depth=2, num_heads=2, patch_size=8)
SIZE = (32, 48)


def build(heads=None, seed=0, **kwargs):
    backbone = BACKBONE | dict(drop_path_rate=0.0) | kwargs.pop('backbone', {})
    torch.manual_seed(seed)
    return MODELS.build(
        dict(
            type='mtl_plugins.MultiTaskSegmentor', backbone=backbone, heads=HEADS if heads is None else heads, **kwargs
        )
    )


def target_for(task, size, generator):
    spec = get_task_spec(task)
    if spec.is_categorical:
        data = torch.randint(0, 2, (1, *size), generator=generator, dtype=torch.uint8)
    else:
        data = torch.rand(spec.channels, *size, generator=generator) + 0.1
    unlabelled = torch.rand(size, generator=generator) < 0.3
    data[:, unlabelled] = spec.fill
    return data


def sample(tasks=tuple(HEADS), size=SIZE, seed=0, **meta):
    generator = torch.Generator().manual_seed(seed)
    out = SegDataSample(metainfo=meta)
    for task in tasks:
        out.set_data({f'gt_{task}': PixelData(data=target_for(task, size, generator))})
    return out


def batch(*samples, seed=0):
    return torch.randn(len(samples), 3, *SIZE, generator=torch.Generator().manual_seed(seed)), list(samples)


def losses_of(out):
    return {key.removesuffix('.loss'): value for key, value in out.items() if key.endswith('.loss')}
