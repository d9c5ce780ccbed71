"""PASCAL-Context with 21 classes, parts of people, saliency, normals and edges."""

from .check import PascalContextCheck
from .dataset import PascalContextMTDataset

__all__ = ['PascalContextCheck', 'PascalContextMTDataset']
