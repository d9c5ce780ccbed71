"""One compact row per method, by kind; :mod:`mtl_plugins.methods.catalogue` makes use of them."""

from .aggregation import ROWS as AGGREGATION
from .strategies import GROUPS, OTHERS
from .weighting import ROWS as WEIGHTING

ROWS = (*WEIGHTING, *AGGREGATION, *OTHERS, *GROUPS)

__all__ = ['ROWS']
