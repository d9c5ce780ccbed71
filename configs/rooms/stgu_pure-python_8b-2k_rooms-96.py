"""stgu_vit-micro_8b-2k_rooms-96.py as a pure Python config.

Bases are imported instead of named, and classes stand where strings would: an editor completes and follows them, and a
wrong name is seen before training. Only files whose names are Python names can be bases, so data and model stand here.
"""

from mmengine.config import read_base
from mmengine.dataset import DefaultSampler

from mtl_plugins.datasets import AbsoluteSampler, RoomsDataset
from mtl_plugins.datasets.transforms import (
    CheckTargets,
    FastPhotoMetricDistortion,
    LoadCachedSample,
    MultiTaskRandomCrop,
    MultiTaskRandomFlip,
    MultiTaskRandomScale,
    PackMultiTaskInputs,
    SeededTransforms,
)
from mtl_plugins.evaluation import MultiTaskEvaluator
from mtl_plugins.models import MaskedBCELoss, LinearHead, MultiTaskDataPreProcessor, MultiTaskSegmentor, TimmViT

with read_base():
    from .._base_.default_runtime import *
    from .._base_.methods.stgu import *
    from .._base_.schedules.adam_2k import *

optim_wrapper.update(optimizer=optimizer)

tasks = ('semseg', 'depth', 'normals', 'edge', 'sal')
size = (96, 96)
augmentations = [
    dict(type=MultiTaskRandomScale, scale=(1.0, 1.5)),
    dict(type=MultiTaskRandomCrop, size=size),
    dict(type=MultiTaskRandomFlip, prob=0.5),
    dict(type=FastPhotoMetricDistortion),
]
train_pipeline = [
    dict(type=LoadCachedSample),
    dict(type=CheckTargets),
    dict(type=SeededTransforms, transforms=augmentations),
    dict(type=PackMultiTaskInputs),
]
test_pipeline = [dict(type=LoadCachedSample), dict(type=CheckTargets), dict(type=PackMultiTaskInputs)]

train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type=AbsoluteSampler, shuffle=True),
    dataset=dict(type=RoomsDataset, split='train', num_images=320, size=size, tasks=tasks, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=RoomsDataset, split='val', num_images=64, size=size, tasks=tasks, pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=RoomsDataset, split='test', num_images=64, size=size, tasks=tasks, pipeline=test_pipeline),
)
val_evaluator = dict(type=MultiTaskEvaluator, metrics='auto', tasks=tasks)
test_evaluator = dict(type=MultiTaskEvaluator, metrics='auto', tasks=tasks)

model = dict(
    type=MultiTaskSegmentor,
    data_preprocessor=dict(type=MultiTaskDataPreProcessor),
    backbone=dict(
        type=TimmViT,
        model_name='vit_tiny_patch16_384',
        img_size=size,
        patch_size=8,
        embed_dim=128,
        depth=6,
        num_heads=4,
        out_indices=(1, 3, 4, 5),
        drop_path_rate=0.05,
    ),
    heads=dict(
        semseg=dict(num_classes=12),
        depth=dict(),
        normals=dict(),
        edge=dict(predictor=dict(type=LinearHead, scale=4), loss=dict(type=MaskedBCELoss, pos_weight=4.0)),
        sal=dict(),
    ),
)
