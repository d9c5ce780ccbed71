"""Comparing methods: variants, their runs, and the records that are kept of them."""

from mtl_plugins.methods.exports import on_demand

__getattr__, __all__ = on_demand(
    __name__,
    {
        'keys': 'Key describe_key',
        'plan': 'ComparisonRun comparison_header variant_run',
        'records': 'RecordStore fingerprint',
        'rounds': 'Plan',
        'tuning': 'Choice Tuning parse_grid',
        'variants': 'LENGTHS SINGLE Variant ordered parse_variants',
        'views': 'choices shared_settings tuning_of view',
    },
)
