"""Optimizers that know of tasks."""

from .ada_task import AdaTask

__all__ = ['AdaTask']
