"""Comparing methods: variants, their runs, and the records that are kept of them."""

from .keys import Key, describe_key
from .plan import ComparisonRun, comparison_header, variant_run
from .records import RecordStore, fingerprint
from .rounds import Plan
from .tuning import Choice, Tuning, parse_grid
from .variants import LENGTHS, SINGLE, Variant, ordered, parse_variants
from .views import choices, shared_settings, tuning_of, view

__all__ = [
    'LENGTHS',
    'SINGLE',
    'Choice',
    'ComparisonRun',
    'Key',
    'Plan',
    'RecordStore',
    'Tuning',
    'Variant',
    'choices',
    'comparison_header',
    'describe_key',
    'fingerprint',
    'ordered',
    'parse_grid',
    'parse_variants',
    'shared_settings',
    'tuning_of',
    'variant_run',
    'view',
]
