"""Writing all files of a report."""

import base64
import html
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd

from mtl_plugins.runtime.checkpoints import write_atomically

from ..compare.variants import file_name
from . import tables
from .comparison import MATCH, RUN_COLUMNS, Comparison
from .figures import pictures
from .groups import agreement_table
from .pairing import every_pair
from .views import mean_table

_MARKS = re.compile(r'[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)')
_FORMULA = ('=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠')
"""What a spreadsheet takes for the beginning of a formula."""


class Setting(NamedTuple):
    """What a report shows of one results file.

    Attributes:
        comparison: Every variant at its own settings.
        tuning: Tables of how these were chosen.
        shared: Tables of all variants at shared settings.
    """

    comparison: Comparison
    tuning: Sequence[tables.Table] = ()
    shared: Sequence[tables.Table] = ()


def write_report(settings: Comparison | Mapping[str, Setting], folder: str | os.PathLike) -> Path:
    """Write ``report.html``, ``report.md`` with ``figures/*.png``, ``runs.csv``, ``summary.csv``
    and ``pairs.csv``.

    Files of these names are replaced, others in the folder stay.

    Args:
        settings: A comparison, or several by the names that the report gives them.
        folder: Where to write.

    Returns:
        The HTML page.
    """
    folder = Path(folder)
    settings = settings if isinstance(settings, Mapping) else {'': Setting(settings)}
    report = report_content(settings)
    several = {name if len(settings) > 1 else '': setting.comparison for name, setting in settings.items()}
    files = {
        'report.md': _render('report.md.j2', report, finalize=_markdown),
        'runs.csv': runs_csv(several),
        'summary.csv': summary_csv(several),
        'pairs.csv': pairs_csv(several),
        'report.html': _render('report.html.j2', report, autoescape=True),
    }
    (folder / 'figures').mkdir(parents=True, exist_ok=True)
    for picture in (picture for part in report['parts'] for picture in part['pictures']):
        write_atomically(picture.png, folder / 'figures' / f'{picture.name}.png')
    for name, text in files.items():
        write_atomically(text.encode(), folder / name)
    return folder / 'report.html'


def report_content(settings: Comparison | Mapping[str, Setting], drawn: bool = True) -> dict[str, Any]:
    """What the templates show; ``drawn=False`` leaves out the pictures, which take long."""
    settings = settings if isinstance(settings, Mapping) else {'': Setting(settings)}
    comparisons = {name: setting.comparison for name, setting in settings.items()}
    first = next(iter(comparisons.values()))
    names = [sorted(set(one.summary['preset'])) for one in comparisons.values()]
    counts = [(len({name for each in names for name in each}), 'multi-task method')]
    counts += [(len({task for one in comparisons.values() for task in one.tasks}), 'task')]
    counts += [(len(comparisons), 'setting')] * (len(comparisons) > 1)
    methods, *where = (f'{count} {noun}{"" if count == 1 else "s"}' for count, noun in counts)
    parts: list[dict[str, Any]] = []
    told = tables.facts(first)
    if len(settings) > 1:
        parts.append(dict(title='All settings', words=False, pictures=[], tables=[mean_table(comparisons)]))
        told = {name: f'{", ".join(t["title"] for t in one.tasks.values())}' for name, one in comparisons.items()}
    for name, setting in settings.items():
        parts += _parts(setting, f'{name}: ' * (len(settings) > 1), drawn)
    return dict(
        title=f'{methods} compared on {" in ".join(where)}',
        config=', '.join(one.config for one in comparisons.values()),
        facts=told,
        parts=[part for part in parts if part['pictures'] or part['tables']],
        length=' or '.join(f'{length:,}' for length in sorted({one.max_iters for one in comparisons.values()})),
        match=MATCH,
        told=f'{first.told:g}',
        sessions=_sessions(comparisons.values()),
    )


def _parts(setting: Setting, prefix: str, drawn: bool) -> list[dict[str, Any]]:
    comparison = setting.comparison
    found = pictures(comparison) if drawn else {}
    if prefix:
        mark = file_name(prefix.rstrip(': '))
        found = {key: [each._replace(name=f'{mark}_{each.name}') for each in own] for key, own in found.items()}
    scored = bool(comparison.reference)
    late = ', '.join(f'{name} {tables.signed(change)}' for name, change in comparison.late_changes().items())
    summary = [tables.Table('In short', ['', ''], list(tables.facts(comparison).items()))] * bool(prefix)
    parts = [
        ('What was compared', '', summary),
        ('Results', 'results', tables.results_tables(comparison)),
        ('Compute', 'compute', tables.pairs_tables(comparison) * scored + [tables.cost_table(comparison)]),
        ('Against each other', 'none', [tables.every_pair_table(comparison)] * scored),
        ('At shared settings', 'none', setting.shared),
        ('How settings were chosen', 'none', setting.tuning),
        ('Learning curves', 'curves', []),
        ('Groups and affinity', 'groups', [agreement_table(comparison)]),
        ('Failed and missing runs', '', [tables.gaps_table(comparison)]),
        ('How this was made', '', [tables.options_table(comparison), tables.origin_table(comparison)]),
    ]
    return [
        dict(
            title=prefix + title,
            words=not key,
            late=late * (key == 'curves'),
            pictures=found.get(key, []),
            tables=[table for table in own if table.rows],
        )
        for title, key, own in parts
    ]


def _sessions(comparisons: Iterable[Comparison]) -> str:
    """In how many starts of the tool the seconds were taken, and how many trainings ran beside each other."""
    records = [record for comparison in comparisons for record in comparison.records]
    found = [record['session'] for record in records if record.get('session')]
    if not found:
        return ''
    starts, jobs = len({session['started'] for session in found}), sorted({session['jobs'] for session in found})
    return f'{starts} start{"s" * (starts > 1)} of the tool, {" and ".join(map(str, jobs))} at a time'


def runs_csv(comparisons: Comparison | Mapping[str, Comparison]) -> str:
    """Every measured value; those of single-task models as the method ``single``. An empty field is no number."""
    return _csv(comparisons, _runs)


def _runs(comparison: Comparison) -> pd.DataFrame:
    rows = comparison.points.sort_values(by='method', key=lambda names: names == 'single', kind='stable')
    rows = rows[RUN_COLUMNS]
    return rows.assign(**{name: rows[name].convert_dtypes() for name in ('forwards', 'backwards')})


def summary_csv(comparisons: Comparison | Mapping[str, Comparison]) -> str:
    """One row per variant, in the order of the report."""
    return _csv(comparisons, _summary)


def _summary(comparison: Comparison) -> pd.DataFrame:
    names = ['preset', 'options', 'runs', 'iterations', 'reference']
    names += [f'score_percent_{end}' for end in ('mean', 'sd', 'n', 'low', 'high')]
    names += ['relative_compute', 'compute', 'backward_equivalents', 'seconds_per_iteration', 'memory_mib', 'groups']
    names += ['on_front']
    for name in ('equal_batches', 'nearest_compute', 'nearest_time'):
        names += [name, *(f'over_{name}{end}' for end in ('', '_low', '_high', '_pairs', '_more_seeds'))]
    titles = {}
    for key, task in comparison.tasks.items():
        titles.update({f'{key}_value_{end}': f'{task["metric"]}_{end}' for end in ('mean', 'sd', 'n')})
        names += [f'{key}_value_mean', f'{key}_value_sd', f'{key}_value_n', f'{key}_change_percent_mean']
        titles[f'{key}_change_percent_mean'] = f'{key}_change_percent'
    return comparison.summary[names].rename(columns=titles).reset_index()


def pairs_csv(comparisons: Comparison | Mapping[str, Comparison]) -> str:
    """The difference of every variant to every other one, in points, with the columns of :class:`Gap`."""
    return _csv(comparisons, lambda one: every_pair(one.summary.index, one.scores, one.same_start))


def _csv(comparisons: Comparison | Mapping[str, Comparison], rows: Callable[[Comparison], pd.DataFrame]) -> str:
    """The rows of one comparison, or of several with a first column that names them."""
    if isinstance(comparisons, Mapping):
        named = [rows(one).assign(**({'setting': name} if name else {})) for name, one in comparisons.items()]
        frame = pd.concat(named, ignore_index=True) if len(named) > 1 else named[0]
        frame = frame[sorted(frame, key=lambda column: column != 'setting')]
    else:
        frame = rows(comparisons)
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
