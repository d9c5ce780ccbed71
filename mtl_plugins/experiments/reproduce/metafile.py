"""Metafiles in OpenMMLab's form, written from finished runs and from nothing else."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mtl_plugins.errors import UserError
from mtl_plugins.runtime.checkpoints import write_atomically
from mtl_plugins.runtime.hooks.environment import commit_of, last_stamp
from mtl_plugins.task_specs import get_task_spec

from .fill import FilledRow
from .plan import RowRuns, RunOptions, config_of
from .tables import PublishedTable


def write_metafile(
    path: Path, table: PublishedTable, planned: Sequence[RowRuns], rows: Sequence[FilledRow], options: RunOptions
) -> list[str]:
    """Write one entry per row whose runs are all finished; entries of other names in the file stay.

    Args:
        path: The metafile.
        table: The table.
        planned: Its rows with their runs.
        rows: The same rows, filled.
        options: With what the runs were made.

    Returns:
        Names of the entries that were written; no file is touched if there is none.

    Raises:
        ValueError: If the runs do not have the setting of the table's configs.
    """
    if not options.as_published(table):
        raise UserError(
            'a metafile tells what the shipped configs give, but these runs have other settings (--cfg-options or '
            '--backbone); run them without'
        )
    entries = {
        entry['Name']: entry
        for plan, filled in zip(planned, rows)
        if filled.complete and (entry := _entry(table, plan, filled, options))
    }
    if entries:
        old = yaml.safe_load(path.read_text(encoding='utf-8'))['Models'] if path.is_file() else []
        merged = {**{entry['Name']: entry for entry in old}, **entries}
        text = yaml.safe_dump(dict(Models=list(merged.values())), sort_keys=False, allow_unicode=True, width=120)
        write_atomically(text.encode(), path)
    return list(entries)


def _entry(table: PublishedTable, plan: RowRuns, filled: FilledRow, options: RunOptions) -> dict[str, Any]:
    config = config_of(table, plan.row, options.backbone)
    method = plan.row.method or 'single-task'
    stamps = [stamp for run in plan.runs.values() if (stamp := last_stamp(run.folder))]
    metrics = {column.metric: round(value, 5) for column, value in zip(table.columns, filled.values) if value == value}
    if filled.delta_m == filled.delta_m:
        metrics['delta_m'] = round(filled.delta_m, 3)
    return dict(
        Name=f'{config.stem}--{method}',
        Config=f'configs/{table.dataset}/{config.name}',
        Metadata={
            'Method': method,
            'Iterations': next(iter(plan.runs.values())).max_iters,
            'Seeds': list(options.seeds),
            'Commits': sorted({commit_of(stamp) for stamp in stamps}),
            'Hardware': sorted({json.dumps(stamp.get('hardware'), sort_keys=True) for stamp in stamps}),
            'Packages': stamps[-1].get('packages', {}) if stamps else {},
        },
        Results=[
            {
                'Task': ', '.join(get_task_spec(column.task).title for column in table.columns),
                'Dataset': table.title.split(',')[0],
                'Metrics': metrics,
            }
        ],
    )
