"""Aggregators: from the gradients of the tasks to one update. Every class of a module here is exported."""

from ..exports import classes_in
from .base import Aggregator

_CLASSES = classes_in(__name__, __path__, Aggregator)
globals().update(_CLASSES)
__all__ = list(_CLASSES)
