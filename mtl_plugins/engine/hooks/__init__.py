"""Hooks for observation and for the safety of runs; none of them is part of a method."""

from .affinity import AffinityHook
from .cost import CostHook

__all__ = ['AffinityHook', 'CostHook']
