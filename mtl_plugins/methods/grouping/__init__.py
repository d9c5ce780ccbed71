"""Groupers: from the affinity of the tasks to groups. Every class of a module here is exported."""

from ..exports import classes_in
from .base import Grouper

_CLASSES = classes_in(__name__, __path__, Grouper)
globals().update(_CLASSES)
__all__ = list(_CLASSES)
