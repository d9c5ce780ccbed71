"""The tables of papers: which runs make them, and our numbers beside the published ones."""

from .fill import FilledRow, fill_table, to_markdown, to_rich
from .metafile import write_metafile
from .plan import RowRuns, RunOptions, plan_table
from .tables import Column, PublishedRow, PublishedTable, list_tables, load_table

__all__ = [
    'Column',
    'FilledRow',
    'PublishedRow',
    'PublishedTable',
    'RowRuns',
    'RunOptions',
    'fill_table',
    'list_tables',
    'load_table',
    'plan_table',
    'to_markdown',
    'to_rich',
    'write_metafile',
]
