"""The tables of papers: which runs make them, and our numbers beside the published ones."""

from mtl_plugins.methods.exports import on_demand

__getattr__, __all__ = on_demand(
    __name__,
    {
        'fill': 'FilledRow fill_table to_markdown to_rich',
        'metafile': 'write_metafile',
        'plan': 'RowRuns RunOptions plan_table',
        'tables': 'Column PublishedRow PublishedTable list_tables load_table',
    },
)
