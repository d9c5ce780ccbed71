"""NYUD-v2 with 40 classes, depth, normals and edges, in the three packagings that are around."""

from .check import NYUDv2Check
from .dataset import NYUDv2Dataset

__all__ = ['NYUDv2Check', 'NYUDv2Dataset']
