"""Rendered rooms in the folders that MMSegmentation's own dataset classes read; there is no dataset class here."""

from .export import export_mmseg

__all__ = ['export_mmseg']
