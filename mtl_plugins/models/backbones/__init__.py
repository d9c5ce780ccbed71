"""Backbones."""

from .channels import map_channels
from .timm_backbone import TimmBackbone
from .timm_vit import TimmViT

__all__ = ['TimmBackbone', 'TimmViT', 'map_channels']
