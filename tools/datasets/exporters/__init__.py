"""Rendered rooms in the layouts of the published datasets, and in the folders of MMSegmentation."""

from .mmseg import export_mmseg
from .nyud import export_nyud
from .pascal_context import export_pascal_context
from .taskonomy import export_taskonomy

EXPORTERS = {
    'nyud': export_nyud,
    'pascal_context': export_pascal_context,
    'taskonomy': export_taskonomy,
    'mmseg': export_mmseg,
}

__all__ = ['EXPORTERS', 'export_mmseg', 'export_nyud', 'export_pascal_context', 'export_taskonomy']
