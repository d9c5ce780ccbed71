"""Comparing methods: variants, their runs, and the records that are kept of them."""

from .plan import ComparisonRun, check_options, comparison_header, mean_groups, single_task_runs, variant_run
from .records import RecordStore, describe_key, fingerprint
from .variants import SINGLE, Variant, ordered, parse_variants

__all__ = [
    'SINGLE',
    'ComparisonRun',
    'RecordStore',
    'Variant',
    'check_options',
    'comparison_header',
    'describe_key',
    'fingerprint',
    'mean_groups',
    'ordered',
    'parse_variants',
    'single_task_runs',
    'variant_run',
]
