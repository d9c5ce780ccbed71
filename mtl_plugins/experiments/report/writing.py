"""Writing all files of a report."""

from __future__ import annotations

import base64
import html
import os
import re
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from mtl_plugins.runtime.checkpoints import write_atomically

from . import tables
from .comparison import MATCH, RUN_COLUMNS, Comparison
from .figures import pictures

_MARKS = re.compile(r'[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)')
_FORMULA = ('=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠')
"""What a spreadsheet takes for the beginning of a formula."""


def write_report(comparison: Comparison, folder: str | os.PathLike) -> Path:
    """Write ``report.html``, ``report.md`` with ``figures/*.png``, ``runs.csv`` and ``summary.csv``.

    Files of these names are replaced, others in the folder stay.

    Returns:
        The HTML page.
    """
    folder = Path(folder)
    report = report_content(comparison)
    files = {
        'report.md': _render('report.md.j2', report, finalize=_markdown),
        'runs.csv': runs_csv(comparison),
        'summary.csv': summary_csv(comparison),
        'report.html': _render('report.html.j2', report, autoescape=True),
    }
    (folder / 'figures').mkdir(parents=True, exist_ok=True)
    for picture in (picture for part in report['parts'] for picture in part['pictures']):
        write_atomically(picture.png, folder / 'figures' / f'{picture.name}.png')
    for name, text in files.items():
        write_atomically(text.encode(), folder / name)
    return folder / 'report.html'


def report_content(comparison: Comparison, drawn: bool = True) -> dict[str, Any]:
    """What the templates show; ``drawn=False`` leaves out the pictures, which take long."""
    found = pictures(comparison) if drawn else {}
    scored = bool(comparison.reference)
    parts = [
        ('Results', 'results', tables.results_tables(comparison)),
        ('Compute', 'compute', [tables.pairs_table(comparison)] * scored + [tables.cost_table(comparison)]),
        ('Learning curves', 'curves', []),
        ('Groups and affinity', 'groups', []),
        ('Failed and missing runs', '', [tables.gaps_table(comparison)]),
        ('How this was made', '', [tables.options_table(comparison), tables.origin_table(comparison)]),
    ]
    content = [
        dict(title=title, words=not key, pictures=found.get(key, []), tables=[table for table in own if table.rows])
        for title, key, own in parts
    ]
    counts = [(comparison.summary['preset'].nunique(), 'multi-task method'), (len(comparison.tasks), 'task')]
    methods, tasks = (f'{count} {noun}{"" if count == 1 else "s"}' for count, noun in counts)
    late = [f'{name} {tables.signed(change)}' for name, change in comparison.late_changes().items()]
    return dict(
        title=f'{methods} compared on {tasks}',
        config=comparison.config,
        facts=tables.facts(comparison),
        parts=[part for part in content if part['pictures'] or part['tables']],
        late=', '.join(late),
        length=comparison.max_iters,
        match=MATCH,
    )


def runs_csv(comparison: Comparison) -> str:
    """Every measured value; those of single-task models as the method ``single``. An empty field is no number."""
    rows = comparison.points.sort_values(by='method', key=lambda names: names == 'single', kind='stable')
    rows = rows[RUN_COLUMNS]
    return _csv(rows.assign(**{name: rows[name].convert_dtypes() for name in ('forwards', 'backwards')}))


def summary_csv(comparison: Comparison) -> str:
    """One row per variant, in the order of the report."""
    names = ['preset', 'options', 'runs', 'iterations', 'reference']
    names += [f'score_percent_{end}' for end in ('mean', 'sd', 'n', 'low', 'high')]
    names += ['relative_compute', 'compute', 'backward_equivalents', 'seconds_per_iteration', 'memory_mib', 'groups']
    names += ['on_front']
    for name in ('equal_batches', 'nearest_compute'):
        names += [name, f'over_{name}', f'over_{name}_low', f'over_{name}_high']
    titles = {}
    for key, task in comparison.tasks.items():
        titles.update({f'{key}_value_{end}': f'{task["metric"]}_{end}' for end in ('mean', 'sd', 'n')})
        names += [f'{key}_value_mean', f'{key}_value_sd', f'{key}_value_n', f'{key}_change_percent_mean']
        titles[f'{key}_change_percent_mean'] = f'{key}_change_percent'
    return _csv(comparison.summary[names].rename(columns=titles).reset_index())


def _csv(frame: pd.DataFrame) -> str:
    return frame.map(_harmless).rename(columns=_harmless).to_csv(index=False, lineterminator='\n')


def _harmless(value: Any) -> Any:
    """Text that no spreadsheet runs."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _markdown(value: Any) -> str:
    """Text that is shown as it is."""
    return _MARKS.sub(r'\\\g<0>', html.escape(str(value), quote=False))


def _render(template: str, report: dict[str, Any], **options: Any) -> str:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, **options)
    environment.filters['base64'] = lambda content: base64.b64encode(content).decode()
    return environment.get_template(template).render(report)
