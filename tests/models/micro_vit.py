"""A ViT that is tiny enough for tests."""

import torch

from mtl_plugins.models import TimmViT

MICRO = dict(embed_dim=32, depth=4, num_heads=2, patch_size=8)


def micro(img_size=(48, 32), seed=0, **kwargs):
    torch.manual_seed(seed)
    return TimmViT(img_size=img_size, **(MICRO | dict(drop_path_rate=0.0) | kwargs))
