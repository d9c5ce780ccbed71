"""The tables and the facts of a report as text."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..compare.keys import describe_key
from .comparison import MATCH, Comparison, verdict
from .pairing import MOST_SEEDS, every_pair

NONE = '–'
MOST_TASKS = 6
"""Tasks beside each other in a table; more would not fit on paper."""
_FULL_SHADE = 20.0
"""A change of so many percent has the full shade."""


class Table(NamedTuple):
    """Texts; the first column names the rows. The others may have shades, from -1 (worse) to 1 (better), and marks."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    shades: np.ndarray | None = None
    best: np.ndarray | None = None


def plain(value: float) -> str:
    """Four significant digits, not fewer than there are before the point; a dash for no number."""
    return f'{value:.{_decimals(value)}f}'.replace('-', '−') if math.isfinite(value) else NONE


def signed(value: float) -> str:
    """Two decimals, with a sign unless they are zero; a dash for no number."""
    if not math.isfinite(value):
        return NONE
    return f'{value:+.2f}'.replace('-', '−') if abs(value) >= 0.005 else '0.00'


def times(value: float) -> str:
    """A factor; a dash for no number."""
    return f'{value:.2f}×' if math.isfinite(value) else NONE


def between(low: float, high: float) -> str:
    """An interval; a dash for none."""
    return f'{signed(low)} to {signed(high)}' if math.isfinite(low) else NONE


def facts(comparison: Comparison) -> dict[str, str]:
    """What was compared, and what came out, in short."""
    table, score = comparison.summary, comparison.score
    seeds = ', '.join(map(str, sorted(set(comparison.runs['seed']))))
    found = {
        'Methods': f'{table["preset"].nunique()}, in {len(table)} variants',
        'Tasks': f'{len(comparison.tasks)}: {", ".join(task["title"] for task in comparison.tasks.values())}',
        'Training': f'{_range(table["iterations"])} iterations of {comparison.config}',
        'Runs per variant': f'{_range(table["runs"])}, seeds {seeds}',
    }
    if not comparison.reference:
        why = 'some single-task models' if len(comparison.single) else 'single-task models and a plain gd'
        found['Measured against'] = f'nothing: {why} are missing'
    else:
        noise = f'; standard error on every {score}: {comparison.reference_error:.2f} points'
        if not math.isfinite(comparison.reference_error):
            noise = '; how far one run is off is not known, and in no interval'
        counts = _range(comparison.baseline['count'])
        found['Measured against'] = f'{comparison.reference}, runs of each: {counts}{noise}'
        ranked = table[table['score_percent_mean'].notna()]
        ends = map(between, ranked['score_percent_low'], ranked['score_percent_high'])
        unknown = ['one run' if count == 1 else 'the reference' for count in ranked['score_percent_n']]
        ranked = zip(ranked.index, ranked['score_percent_mean'], ends, unknown)
        told = [f'{name} {signed(mean)} % ({word if end == NONE else end})' for name, mean, end, word in ranked]
        found[f'Best {score}'], found[f'Worst {score}'] = ', '.join(told[:3]) or NONE, ''.join(told[-1:]) or NONE
        found['Against ordinary training, equal batches'] = _verdicts(table, 'equal_batches')
        for name, words in (('compute', 'equal compute'), ('time', 'equal wall-clock')):
            matched = table[table[f'{name}_ratio'].between(1 / MATCH, MATCH)]
            found[f'Against ordinary training, {words}'] = _verdicts(matched, f'nearest_{name}')
        front = table.loc[table['on_front'], 'compute'].sort_values() / comparison.max_iters
        told = [f'{name} ({times(compute)})' for name, compute in front.items()]
        found[f'No higher {score} with as little compute'] = ', '.join(told) or NONE
    found['Runs of one seed'] = starts(comparison)
    undefined = int((table['runs'] - table['score_percent_n']).sum()) if comparison.reference else 0
    gaps = {'failed': len(comparison.errors), 'missing': len(comparison.missing), 'without a number': undefined}
    found['Gaps'] = ', '.join(f'{count} {word}' for word, count in gaps.items() if count) or 'none'
    return found


def starts(comparison: Comparison) -> str:
    """Whether the runs of one seed began alike."""
    known = sum(record['task'] is None for record in comparison.records) - comparison.silent
    silent = f'{comparison.silent} runs do not say'
    if comparison.differing:
        told = '; '.join(f'seed {seed}: {", ".join(names)}' for seed, names in sorted(comparison.differing.items()))
        return f'began or went on differently, and are not paired: {told}' + f'; {silent}' * bool(comparison.silent)
    if not known:
        return f'are not known to have begun alike: {silent}'
    alike = f'same first weights and order of samples for all variants, checked in {known} runs'
    return alike + f'; {silent}' * bool(comparison.silent)


def results_tables(comparison: Comparison) -> list[Table]:
    """Scores, then headline metrics and changes of the tasks, a few tasks per table; the reference is the first row."""
    own = table = comparison.summary
    keys = list(comparison.tasks)
    if comparison.reference == 'single-task models':
        base = comparison.baseline
        row = dict(runs=base['count'].min(), compute=comparison.single_compute, score_percent_mean=0.0)
        for key in keys:
            row[f'{key}_value_mean'] = base.loc[key, 'mean']
            row[f'{key}_value_sd'] = base.loc[key, 'sem'] * math.sqrt(base.loc[key, 'count'])
        table = pd.concat([pd.DataFrame(row, index=[comparison.reference]), table])
    lost = (table['runs'] - table['score_percent_n']).fillna(0) * bool(comparison.reference)
    columns = [
        ('variant', table.index),
        ('runs', [f'{count:.0f}{f" ({n:.0f} undefined)" * bool(n)}' for count, n in zip(table['runs'], lost)]),
        (f'{comparison.score} (%)', _spread(table, 'score_percent', signed)),
        ('95 % interval', map(between, table['score_percent_low'], table['score_percent_high'])),
        ('compute', map(times, table['compute'] / comparison.max_iters)),
    ]
    many = len(own) > 1
    values, changes = [make_table(f'{comparison.score} after training, mean ± standard deviation', columns)], []
    for part in (keys[start : start + MOST_TASKS] for start in range(0, len(keys), MOST_TASKS)):
        shades = table[[f'{key}_change_percent_mean' for key in part]].div(_FULL_SHADE).clip(-1, 1).fillna(0).to_numpy()
        columns = [(_heading(comparison.tasks[key]), _spread(table, f'{key}_value', plain)) for key in part]
        caption = 'Headline metrics after training, mean ± standard deviation'
        means = table[[f'{key}_value_mean' for key in part]]
        up = [comparison.tasks[key]['higher_is_better'] for key in part]
        ends = np.where(up, means[-len(own) :].max(), means[-len(own) :].min())
        values.append(
            make_table(caption, [('variant', table.index), *columns], shades, (means == ends).to_numpy() & many)
        )
        columns = [(comparison.tasks[key]['title'], _spread(own, f'{key}_change_percent', signed)) for key in part]
        caption = f'Change against {comparison.reference} in percent, positive where better'
        changes.append(make_table(caption, [('variant', own.index), *columns], shades[-len(own) :]))
    return values + changes * bool(comparison.reference)


def pairs_tables(comparison: Comparison) -> list[Table]:
    """Every variant beside ordinary training: at equal batches, and at the nearest compute and wall-clock time."""
    table = comparison.summary[comparison.summary['preset'] != 'gd']
    views = [('equal_batches', 'at equal batches', '')]
    views += [('nearest_compute', 'at the nearest compute', 'compute_ratio')]
    views += [('nearest_time', 'at the nearest wall-clock time', 'time_ratio')]
    found = []
    for name, words, ratio in views:
        shown = table[table[name] != '']
        fits = shown[ratio].between(1 / MATCH, MATCH) if ratio else [True] * len(shown)
        verdicts = map(verdict, shown[f'over_{name}_low'], shown[f'over_{name}_high'])
        verdicts = [word if fit else 'unequal' for word, fit in zip(verdicts, fits)]
        columns = [('variant', shown.index), ('ordinary training', shown[name])]
        columns += [('its share', map(times, shown[ratio]))] if ratio else []
        place = len(columns)
        columns += [
            ('difference', _gaps(shown, name)),
            ('pairs', [str(pairs) if pairs else 'unpaired' for pairs in shown[f'over_{name}_pairs']]),
            ('verdict', [word or NONE for word in verdicts]),
            (f'more seeds to tell {comparison.told:g}', map(_count, shown[f'over_{name}_more_seeds'])),
        ]
        shades = np.zeros((len(shown), len(columns) - 1))
        shades[:, place - 1] = [{'ahead': 0.6, 'behind': -0.6}.get(word, 0.0) for word in verdicts]
        caption = f'Difference to ordinary training {words} in points, with 95 % intervals'
        found.append(make_table(caption, columns, shades))
    return found


def every_pair_table(comparison: Comparison) -> Table:
    """Which variants every variant is told from."""
    pairs = every_pair(comparison.summary.index, comparison.scores, comparison.same_start)
    pairs = pairs.assign(verdict=list(map(verdict, pairs['low'], pairs['high'])))
    columns = {'ahead of': 'ahead', 'not told from': 'undecided', 'behind': 'behind'}
    rows = [
        [name, *(', '.join(own.loc[own['verdict'] == word, 'other']) or NONE for word in columns.values())]
        for name, own in pairs[pairs['verdict'] != ''].groupby('variant', sort=False)
    ]
    caption = f'Every variant beside every other, whatever they cost, by 95 % intervals of the {comparison.score}'
    return Table(f'{caption} (pairs.csv has the numbers)', ['variant', *columns], rows if len(rows) > 2 else [])


def cost_table(comparison: Comparison) -> Table:
    """What every variant takes."""
    table = comparison.summary.sort_values('relative_compute', kind='stable')
    names = {'forwards': 'forwards', 'backwards': 'backwards', 'groups': 'groups'}
    names |= {'seconds_per_iteration': 'seconds', 'memory_mib': 'memory (MiB)'}
    columns = [('variant', table.index), ('compute', map(times, table['relative_compute']))]
    columns += [(head, map(plain, table[name])) for name, head in names.items()]
    return make_table('Cost per iteration; compute of ordinary training is 1.00×', columns)


def gaps_table(comparison: Comparison) -> Table:
    """Failed, missing and undefined runs."""
    rows = [(describe_key(key), 'failed', text) for key, text in comparison.errors.items()]
    rows += [(describe_key(key), 'missing', 'not in the results file') for key in comparison.missing]
    for _, run in comparison.runs.iterrows():
        blank = [task['title'] for key, task in comparison.tasks.items() if math.isnan(run[f'value {key}'])]
        if blank:
            name = describe_key((run['method'], run['seed'], None))
            rows.append((name, 'undefined', f'no number at the end: {", ".join(blank)}'))
    return Table('Runs without a result', ['run', 'state', 'details'], rows)


def options_table(comparison: Comparison) -> Table:
    """Variants that differ from the preset of their method."""
    changed = comparison.summary[comparison.summary['options'] != '{}'].sort_index()
    rows = list(changed[['preset', 'options']].itertuples(name=None))
    return Table('Variants with options of their own', ['variant', 'method', 'options'], rows)


def origin_table(comparison: Comparison) -> Table:
    """Commits, versions and machines of the runs."""
    found = Counter(_machine(record['environment']) for record in comparison.records if record.get('environment'))
    rows = [(*machine, str(count)) for machine, count in sorted(found.items())]
    return Table('Where the runs were made', ['commit', 'PyTorch', 'machine', 'runs'], rows)


def make_table(caption: str, columns: Iterable[tuple[str, Iterable[str]]], *marks: np.ndarray | None) -> Table:
    """A table of columns, each a heading and its texts."""
    heads, texts = zip(*columns)
    return Table(caption, heads, list(zip(*texts)), *marks)


def _spread(table: pd.DataFrame, name: str, text: Callable[[float], str]) -> list[str]:
    """Means and standard deviations with as many decimals."""
    found = []
    for mean, deviation in zip(table[f'{name}_mean'], table[f'{name}_sd']):
        decimals = 2 if text is signed or not math.isfinite(mean) else _decimals(mean)
        found.append(text(mean) + (f' ± {deviation:.{decimals}f}' if math.isfinite(deviation) else ''))
    return found


def _gaps(table: pd.DataFrame, name: str) -> list[str]:
    rows = zip(table[f'over_{name}'], table[f'over_{name}_low'], table[f'over_{name}_high'])
    # Without breaks, so that what does not fit beside its mean goes to the next line as a whole.
    wide = '\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}'
    return [
        signed(mean) + (f' ({between(low, high).replace(" to ", wide)})' if math.isfinite(low) else '')
        for mean, low, high in rows
    ]


def _count(value: float) -> str:
    return NONE if math.isnan(value) else f'{value:.0f}' if math.isfinite(value) else f'over {MOST_SEEDS:,}'


def _verdicts(table: pd.DataFrame, name: str) -> str:
    table = table[table[name] != '']
    found = Counter(map(verdict, table[f'over_{name}_low'], table[f'over_{name}_high']))
    words = {'ahead': 'ahead', 'behind': 'behind', 'undecided': 'undecided', '': 'with too few runs to tell'}
    told = [f'{found[key]} {word}' for key, word in words.items() if found[key]]
    return ', '.join(told) or 'nothing to compare with'


def _machine(environment: Mapping[str, Any]) -> tuple[str, str, str]:
    hardware = environment.get('hardware') or {}
    names = [gpu.get('name', 'GPU') if isinstance(gpu, Mapping) else gpu for gpu in hardware.get('gpus') or ()]
    device = ', '.join(f'{count} x {name}' for name, count in sorted(Counter(map(str, names)).items()))
    device = device or f'{hardware.get("cpu") or "unknown processor"}, {hardware.get("usable_cores", "?")} cores'
    return environment.get('commit') or 'unknown', environment.get('torch') or 'unknown', device


def _heading(task: Mapping[str, Any]) -> str:
    unit = f' ({task["unit"]})' if task['unit'] else ''
    arrow = '↑' if task['higher_is_better'] else '↓'
    return f'{task["title"]}: {task["metric"].split("/", 1)[-1]}{unit}\N{NO-BREAK SPACE}{arrow}'


def _decimals(value: float) -> int:
    return min(max(3 - math.floor(math.log10(abs(value))), 0), 6) if value else 0


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f'{low:,}' if low == high else f'{low:,} to {high:,}'
