"""A tiny model with a checkpoint, for inference and export."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from skimage import data

from mtl_plugins.registry import MODELS

TASKS = ('semseg', 'depth', 'normals', 'edge', 'principal_curvature')
SIZE = (32, 48)
META = dict(
    tasks=TASKS,
    classes=dict(semseg=('wall', 'floor', 'cat', 'cup')),
    palettes=dict(semseg=[[200, 200, 200], [90, 60, 20], [230, 120, 20], [20, 90, 200]]),
)
CONFIG = f"""
default_scope = 'mtl_plugins'
train_dataloader = dict(dataset=dict(type='X', pipeline=[
    dict(type='mtl_plugins.SeededTransforms', transforms=[dict(type='mtl_plugins.MultiTaskRandomCrop', size={SIZE})]),
]))
test_dataloader = dict(dataset=dict(type='X', pipeline=[
    dict(type='mtl_plugins.MultiTaskPad', size={SIZE}, pad_targets=False),
]))
model = dict(
    type='mtl_plugins.MultiTaskSegmentor',
    data_preprocessor=dict(type='mtl_plugins.MultiTaskDataPreProcessor'),
    backbone=dict(type='mtl_plugins.TimmViT', img_size={SIZE}, embed_dim=32, depth=2, num_heads=2, patch_size=8),
    heads=dict(semseg=dict(num_classes=4), depth=dict(), normals=dict(), edge=dict(), principal_curvature=dict()),
)
"""


@pytest.fixture(scope='session')
def tiny(tmp_path_factory):
    """Config file and checkpoint of a model with random weights."""
    folder = tmp_path_factory.mktemp('tiny')
    config, checkpoint = folder / 'tiny.py', folder / 'tiny.pth'
    config.write_text(CONFIG)
    init_default_scope('mtl_plugins')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(str(config)).model)
    for head in model.heads.values():
        torch.nn.init.normal_(head.predictor.conv.weight, std=0.3)
    torch.save(dict(meta=dict(dataset_meta=META), state_dict=model.state_dict()), checkpoint)
    return str(config), str(checkpoint)


@pytest.fixture(scope='session')
def photos():
    """Three photographs of different sizes, RGB."""
    small = {'astronaut': (60, 60), 'chelsea': (30, 45), 'coffee': (40, 24)}
    return {
        name: np.ascontiguousarray(getattr(data, name)()[:: 512 // height, :: 512 // width][:height, :width])
        for name, (height, width) in small.items()
    }


def write(folder: Path, photos) -> list[Path]:
    """Save the photographs as PNG files."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f'{name}.png' for name in photos]
    for path, rgb in zip(paths, photos.values()):
        Image.fromarray(rgb).save(path)
    return paths
