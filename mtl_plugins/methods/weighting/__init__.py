"""Weightings: from the losses to one weight per task. Every class of a module here is exported."""

from ..exports import classes_in
from .base import Weighting

_CLASSES = classes_in(__name__, __path__, Weighting)
globals().update(_CLASSES)
__all__ = list(_CLASSES)
