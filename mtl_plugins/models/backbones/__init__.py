"""Backbones."""

from .channels import map_channels
from .timm_vit import TimmViT

__all__ = ['TimmViT', 'map_channels']
