"""PASCAL-Context with 21 classes, parts of people, saliency, normals and edges."""

from .check import PascalContextCheck
from .dataset import PascalContextMTDataset
from .export import export_pascal_context

__all__ = ['PascalContextCheck', 'PascalContextMTDataset', 'export_pascal_context']
