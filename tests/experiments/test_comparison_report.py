import base64
import csv
import html.parser
import io
import itertools
import json
import math
import re
import statistics
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mtl_plugins.cli import compare
from mtl_plugins.errors import UserImportError
from mtl_plugins.experiments.compare import RecordStore, choices, view
from mtl_plugins.experiments.report import Comparison, expected_keys, write_report
from mtl_plugins.experiments.report.comparison import verdict
from mtl_plugins.experiments.report.figures import pictures
from mtl_plugins.experiments.report.groups import agreement_table
from mtl_plugins.experiments.report.pairing import Gap, gap, seeds_needed
from mtl_plugins.experiments.report.tables import (
    MOST_TASKS,
    NONE,
    every_pair_table,
    facts,
    gaps_table,
    pairs_tables,
    plain,
    signed,
    starts,
    times,
)
from mtl_plugins.experiments.report.writing import pairs_csv, report_content, runs_csv, summary_csv

TASKS = {
    'semseg': dict(title='Semantic segmentation', metric='semseg/mIoU', unit='%', higher_is_better=True),
    'depth': dict(title='Depth', metric='depth/RMSE', unit='m', higher_is_better=False),
    'normals': dict(title='Surface normals', metric='normals/mean', unit='deg', higher_is_better=False),
}
HEADER = dict(version=1, config='tiny.py', tasks=TASKS, max_iters=100)
ONE_TASK = {**HEADER, 'tasks': {'depth': TASKS['depth']}}
BASE = {'semseg': 40.0, 'depth': 0.6, 'normals': 24.0}
GAINS = {'gd': -4.0, 'gd[passes=3]': 2.0, 'stgu': 5.0, 'cagrad': -1.0}
PASSES = {'gd': 1, 'gd[passes=3]': 3, 'stgu': 3.2, 'cagrad': 1.3}


def record(name, seed, gain, rng, task=None, passes=1.0):
    curve = []
    for iteration in (50, 100):
        metrics = {}
        for key, entry in TASKS.items():
            if task in (None, key):
                share = (gain + rng.normal(0, 0.5) - (20 if iteration == 50 else 0)) / 100
                metrics[entry['metric']] = BASE[key] * (1 + share if entry['higher_is_better'] else 1 - share)
        count = round(iteration * passes)
        cost = dict(forwards=count, backwards=count, seconds=0.1 * count, memory_mib=500.0)
        curve.append(dict(iter=iteration, metrics=metrics, cost=cost))
    groups = affinity = None
    if name.startswith('stgu') and task is None:
        groups = dict(mean=2.5, curve=[[1, 3], [50, 2], [100, 2]])
        affinity = dict(iter=100, tasks=list(TASKS), matrix=rng.normal(0, 1e-3, (3, 3)).tolist())
    return dict(
        variant=name,
        method=name.split('[')[0],
        options={'passes': 3} if 'passes' in name else {},
        seed=seed,
        task=task,
        settings='x',
        curve=curve,
        metrics=curve[-1]['metrics'],
        groups=groups,
        affinity=affinity,
        environment=dict(commit='abc', torch='2', hardware=dict(cpu='x', usable_cores=2, gpus=[])),
    )


def make_records(names=tuple(GAINS), seeds=(0, 1, 2), single=True):
    rng = np.random.default_rng(0)
    runs = [record(name, seed, GAINS.get(name, 0), rng, passes=PASSES.get(name, 1)) for name in names for seed in seeds]
    runs += [record('single', seed, 0, rng, task) for seed in seeds for task in TASKS if single]
    return {(run['variant'], run['seed'], run['task']): run for run in runs}


def last(records, key, task):
    return records[key]['curve'][-1]['metrics'][TASKS[task]['metric']]


def slow_delta_m(records, name, seed):
    changes = []
    for task, entry in TASKS.items():
        base = statistics.mean(last(records, key, task) for key in records if key[0] == 'single' and key[2] == task)
        own = task if name == 'single' else None
        change = (last(records, (name, seed, own), task) - base) / base * 100
        changes.append(change if entry['higher_is_better'] else -change)
    return statistics.mean(changes)


def test_statistics_equal_those_of_scipy():
    records = make_records()
    comparison = Comparison(HEADER, records)
    table = comparison.summary
    assert list(table.index) == ['stgu', 'gd[passes=3]', 'cagrad', 'gd']
    scores = {name: [slow_delta_m(records, name, seed) for seed in (0, 1, 2)] for name in table.index}
    for name, values in scores.items():
        row = table.loc[name]
        assert row['score_percent_mean'] == pytest.approx(statistics.mean(values))
        assert row['score_percent_sd'] == pytest.approx(statistics.stdev(values))
        # Paired with what the single-task models of the same seed score, so that their noise counts.
        paired = [value - slow_delta_m(records, 'single', seed) for seed, value in enumerate(values)]
        interval = stats.t.interval(0.95, 2, statistics.mean(values), stats.sem(paired))
        assert (row['score_percent_low'], row['score_percent_high']) == pytest.approx(interval)
        depth = [last(records, (name, seed, None), 'depth') for seed in (0, 1, 2)]
        assert row['depth_value_mean'] == pytest.approx(statistics.mean(depth))
    paired = stats.ttest_rel(scores['stgu'], scores['gd']).confidence_interval(0.95)
    stgu = table.loc['stgu']
    assert (stgu['over_equal_batches_low'], stgu['over_equal_batches_high']) == pytest.approx((paired.low, paired.high))
    assert stgu['over_equal_batches_pairs'] == 3
    # Without seeds in common they are independent samples.
    moved = {(name, seed + 5 * (name == 'gd'), task): run for (name, seed, task), run in records.items()}
    moved = {key: {**run, 'seed': key[1]} for key, run in moved.items()}
    welch = stats.ttest_ind(scores['stgu'], scores['gd'], equal_var=False).confidence_interval(0.95)
    stgu = Comparison(HEADER, moved).summary.loc['stgu']
    assert (stgu['over_equal_batches_low'], stgu['over_equal_batches_high']) == pytest.approx((welch.low, welch.high))
    assert stgu['over_equal_batches_pairs'] == 0
    assert table.loc['cagrad', 'relative_compute'] == pytest.approx(1.3)
    assert comparison.single_compute == pytest.approx(300)


def test_the_noise_of_the_reference_is_that_of_many_draws():
    comparison = Comparison(HEADER, make_records())
    rng = np.random.default_rng(1)
    draws = np.zeros(4000)
    for _, base in comparison.baseline.iterrows():
        draws += rng.normal(base['mean'], base['sem'] * 3**0.5, (3, 4000)).mean(0) / base['mean'] * 100 / 3
    assert comparison.reference_error == pytest.approx(draws.std(), rel=0.06)


def test_curves_are_means_where_all_runs_have_a_validation():
    records = make_records(names=('gd',))
    del records['gd', 1, None]['curve'][0]
    comparison = Comparison(HEADER, records)
    curve = comparison.curves('value', 'depth')['gd']
    assert list(curve.index) == [100]
    assert curve['y'][100] == pytest.approx(comparison.summary.loc['gd', 'depth_value_mean'])
    assert comparison.late_changes() == {}


def began(weights, **samples):
    return dict(weights=weights, samples={str(count): text for count, text in samples.items()})


def test_runs_of_one_seed_are_paired_if_they_began_alike():
    records = make_records(names=('gd', 'stgu', 'cagrad'), seeds=(0, 1))
    assert starts(Comparison(HEADER, records)) == 'are not known to have begun alike: 6 runs do not say'
    for (name, seed, task), run in records.items():
        # A longer run has seen more; what both have seen is the same.
        run['start'] = None if task else began(f'w{seed}', a=f's{seed}', **({'b': 'x'} if name == 'stgu' else {}))
    comparison = Comparison(HEADER, records)
    assert starts(comparison) == 'same first weights and order of samples for all variants, checked in 6 runs'
    assert list(comparison.summary.loc[['stgu', 'cagrad'], 'over_equal_batches_pairs']) == [2, 2]
    for change in (dict(weights='other'), dict(samples={'a': 'other'})):
        records['cagrad', 1, None]['start'] = {**began('w1', a='s1'), **change}
        comparison = Comparison(HEADER, records)
        assert (
            'began or went on differently, and are not paired: seed 1: cagrad' in facts(comparison)['Runs of one seed']
        )
        assert list(comparison.summary.loc[['stgu', 'cagrad'], 'over_equal_batches_pairs']) == [2, 0]


def test_the_seeds_that_tell_a_difference_are_those_of_the_power_of_the_t_test():
    rng = np.random.default_rng(0)
    for deviation, difference in ((1.0, 1.0), (2.0, 1.0), (0.3, 1.0)):
        count = int(seeds_needed(deviation, difference))
        draws = rng.normal(difference, deviation, (20000, count))
        told = stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05
        assert told.mean() > 0.74
        fewer = stats.ttest_1samp(draws[:, : count - 1], 0, axis=1).pvalue < 0.05
        assert count == 2 or fewer.mean() < 0.83
    assert math.isnan(seeds_needed(math.nan, 1))
    assert math.isinf(seeds_needed(1e6, 1))


@pytest.mark.parametrize('count', [3, 5])
def test_intervals_of_differences_cover_what_is_true(count):
    """1000 comparisons whose runs of one seed have much in common."""
    rng = np.random.default_rng(count)
    covered = unpaired = 0
    for number in range(1000):
        seed = rng.normal(0, 3, count)
        first, second = (pd.Series(mean + seed + rng.normal(0, 1, count)) for mean in (2.0, 0.5))
        found = gap(first, second)
        covered += found.low <= 1.5 <= found.high
        if number < 50:
            found = gap(first, second, same_start=False)
            unpaired += found.low <= 1.5 <= found.high
    assert 930 <= covered <= 970
    assert unpaired == 50  # as independent samples the intervals would be far too wide


def simulated(rng, seeds, rate_effects):
    """A results file with rates that were chosen, and the truth behind it: (variant, rate) -> change in percent."""
    runs = []
    tasks = {key: TASKS[key] for key in ('semseg', 'depth')}
    common = {(seed, key): rng.normal(0, 3) for seed in seeds for key in tasks}

    def add(name, seed, effect, **more):
        values = {}
        for key, entry in tasks.items():
            if more.get('task') in (None, key):
                shared = rng.normal(0, 3) if more.get('tuning') else common[seed, key]
                change = (effect + shared + rng.normal(0, 1)) / 100
                values[entry['metric']] = BASE[key] * (1 + change if entry['higher_is_better'] else 1 - change)
        cost = dict(forwards=100, backwards=100, seconds=1.0, memory_mib=1.0)
        curve = [dict(iter=100, metrics=values, cost=cost)]
        run = dict(variant=name, method='gd' if name == 'single' else name, options={}, seed=seed, task=None)
        runs.append({**run, 'settings': 'x', 'curve': curve, 'metrics': values, **more})

    for (name, rate), effect in rate_effects.items():
        add(name, 0, effect, at={'optimizer.lr': rate}, tuning=True)
        for seed in seeds:
            add(name, seed, effect, at={'optimizer.lr': rate}, tuning=False)
    for seed in seeds:
        for key in tasks:
            add('single', seed, 0.0, task=key)
    tuning = dict(grid={'optimizer.lr': [1, 2]}, share=0.1, seeds=[0], shared='gd')
    return json.dumps({**HEADER, 'version': 2, 'tasks': tasks, 'tuning': tuning, 'runs': runs})


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('count', [3, 5])
def test_intervals_of_a_report_cover_what_is_true(count, tmp_path):
    """1000 files, with rates that were chosen on other data than those that score."""
    rng, covered = np.random.default_rng(count), Counter()
    truth = {('gd', 1): 1.0, ('gd', 2): 1.5, ('stgu', 1): 3.0, ('stgu', 2): 2.0}
    for _ in range(1000):
        (tmp_path / 'r.json').write_text(simulated(rng, range(count), truth))
        store = RecordStore(tmp_path / 'r.json', None)
        chosen = {name: int(choice.at[-1]) for (name, _), choice in choices(store).items()}
        covered[chosen['stgu']] += 1
        row = Comparison(store.header, view(store)[0]).summary.loc['stgu']
        stgu, gd = (truth[name, chosen[name]] for name in ('stgu', 'gd'))
        covered['score'] += row['score_percent_low'] <= stgu <= row['score_percent_high']
        covered['difference'] += row['over_equal_batches_low'] <= stgu - gd <= row['over_equal_batches_high']
    assert min(covered[1], covered[2]) > 100, 'each rate should be chosen now and then'
    for name in ('score', 'difference'):
        assert 930 <= covered[name] <= 970, (name, covered[name])


def test_the_views_of_a_tuned_comparison(tmp_path):
    (tmp_path / 'r.json').write_text(
        simulated(np.random.default_rng(0), range(3), {('gd', 1): 9, ('gd', 2): 0, ('stgu', 1): 0, ('stgu', 2): 9})
    )
    assert compare.main(['--report-only', '--results', str(tmp_path / 'r.json'), '--tell', '0.5']) == 0
    text = (tmp_path / 'report' / 'report.md').read_text()
    assert re.search(r'\| gd \| optimizer.lr=1 \| optimizer.lr \| 2 of 2 values \|\n\| stgu \| optimizer.lr=2 \|', text)
    shared = text.split('## At shared settings')[1].split('## ')[0]
    assert 'all at optimizer.lr=1' in shared
    assert re.search(r'\| stgu \| gd \| −.* \| behind \|', shared)
    assert 'more seeds to tell 0.5' in text


def test_the_mean_over_settings_is_paired_too(tmp_path, monkeypatch):
    monkeypatch.setattr('mtl_plugins.experiments.report.writing.pictures', lambda comparison: {})
    both = [make_records(names=('gd', 'stgu')), make_records(names=('gd', 'stgu', 'uw'))]
    for number, records in enumerate(both):
        content = {**HEADER, 'config': f'c{number}.py', 'runs': list(records.values())}
        (tmp_path / f'{number}.json').write_text(json.dumps(content))
    files = ','.join(str(tmp_path / f'{number}.json') for number in (0, 1))
    assert compare.main(['--report-only', '--results', files, '--out', str(tmp_path / 'out')]) == 0
    text = (tmp_path / 'out' / 'report.md').read_text()
    (row,) = re.findall(r'^\| stgu \|.*', text.split('## All settings')[1].split('## c0')[0], re.MULTILINE)
    scores = [[slow_delta_m(r, n, s) for s in (0, 1, 2)] for r in both for n in ('gd', 'stgu')]
    paired = (np.subtract(scores[1], scores[0]) + np.subtract(scores[3], scores[2])) / 2
    half = stats.t.ppf(0.975, 2) * stats.sem(paired)
    mean = paired.mean()
    assert f'{signed(mean)} ({signed(mean - half)}\xa0to\xa0{signed(mean + half)})' in row
    assert '## c1: Results' in text
    with (tmp_path / 'out' / 'summary.csv').open() as file:
        assert [(line['setting'], line['method']) for line in csv.DictReader(file)][-1] == ('c1', 'gd')


def test_few_or_undefined_values_claim_nothing():
    records = make_records(names=('gd', 'uw'), seeds=(0, 1))
    del records['uw', 1, None]
    table = Comparison(HEADER, records).summary
    assert math.isnan(table.loc['uw', 'score_percent_low'])
    assert verdict(*table.loc['uw', ['over_equal_batches_low', 'over_equal_batches_high']]) == ''
    assert [verdict(*ends) for ends in ((1, 1), (-2, -1), (-1, 1))] == ['ahead', 'behind', 'undecided']
    # Runs without any spread: the difference is exact.
    for (name, _, task), run in records.items():
        run['curve'][-1] = records[name, 0, task]['curve'][-1]
    records['uw', 1, None] = {**records['uw', 0, None], 'seed': 1}
    row = Comparison(HEADER, records).summary.loc['uw']
    assert row['over_equal_batches_low'] == row['over_equal_batches'] == row['over_equal_batches_high']


@pytest.mark.parametrize(
    ('text', 'value', 'shown'),
    [
        (plain, 1234.5, '1234'), (plain, -0.012345, '−0.01235'), (plain, 0.0, '0'), (plain, math.nan, '–'),
        (signed, 1.0, '+1.00'), (signed, -0.001, '0.00'), (signed, math.inf, '–'), (times, 2.5, '2.50×'),
    ],
)  # fmt: skip
def test_numbers_are_printed_with_few_digits(text, value, shown):
    assert text(value) == shown


def test_front_and_pairs():
    comparison = Comparison(HEADER, make_records())
    table = comparison.summary
    assert table['on_front'].all()
    assert set(table.index[table['equal_batches'] != '']) == {'stgu', 'cagrad'}
    assert table.loc['stgu', 'equal_batches'] == table.loc['cagrad', 'nearest_compute'] == 'gd'
    assert table.loc['stgu', 'nearest_compute'] == 'gd[passes=3]'
    means = table['score_percent_mean']
    assert table.loc['stgu', 'over_nearest_compute'] == pytest.approx(means['stgu'] - means['gd[passes=3]'])
    equal, compute, clock = ({row[0]: row for row in table.rows} for table in pairs_tables(comparison))
    assert compute['stgu'][5] == clock['stgu'][5] == 'ahead'
    assert equal['cagrad'][1] == 'gd'
    # 1.3 times the compute is not the same compute.
    assert compute['cagrad'][5] == 'unequal'


def test_every_variant_stands_beside_every_other():
    comparison = Comparison(HEADER, make_records())
    names = list(comparison.summary.index)
    rows = {(row['variant'], row['other']): row for row in csv.DictReader(io.StringIO(pairs_csv(comparison)))}
    assert list(rows) == [pair for first in names for pair in [(first, other) for other in names if other != first]]
    for (first, second), row in rows.items():
        found = gap(comparison.scores(first), comparison.scores(second))
        assert [float(row[name]) for name in Gap._fields] == pytest.approx(list(found), rel=1e-9)
    told = every_pair_table(comparison)
    for name, *lists in told.rows:
        others = [other for text in lists for other in text.split(', ') if other != '–']
        assert sorted(others) == sorted({*names} - {name})
        for other in lists[0].split(', '):
            assert other == '–' or float(rows[name, other]['low']) > 0
    assert every_pair_table(Comparison(HEADER, make_records(names=('gd', 'stgu')))).rows == []


def test_variants_without_a_score_stand_beside_none():
    records = make_records(names=('gd', 'stgu', 'cagrad'), seeds=(0, 1), single=False)
    for seed in (0, 1):
        records['cagrad', seed, None]['curve'][-1]['metrics']['depth/RMSE'] = None
    assert set(pd.read_csv(io.StringIO(pairs_csv(Comparison(HEADER, records))))['variant']) == {'gd', 'stgu'}


def test_the_front_has_no_beaten_one():
    rng = np.random.default_rng(3)
    names = [f'm{i}' for i in range(30)]
    runs = [record(name, 0, rng.normal(0, 5), rng, passes=float(rng.integers(1, 6))) for name in names]
    runs += [record('single', 0, 0, rng, task) for task in TASKS]
    table = Comparison(HEADER, {(run['variant'], 0, run['task']): run for run in runs}).summary
    for row in table.itertuples():
        beaten = ((table['compute'] <= row.compute) & (table['score_percent_mean'] > row.score_percent_mean)).any()
        assert row.on_front != beaten


@pytest.mark.parametrize(
    ('drop', 'reference', 'words'),
    [
        (lambda key: False, 'single-task models', 'single-task models, runs of each: 3'),
        (lambda key: key[0] == 'single', 'ordinary training', 'ordinary training, runs of each: 3'),
        (lambda key: key[0] == 'single' and key[2] == 'depth', '', 'some single-task models are missing'),
        (lambda key: key[0] in ('single', 'gd'), '', 'single-task models and a plain gd are missing'),
    ],
)
def test_what_results_are_measured_against(drop, reference, words):
    records = {key: run for key, run in make_records().items() if not drop(key)}
    comparison = Comparison(HEADER, records)
    assert comparison.reference == reference
    assert words in facts(comparison)['Measured against']
    report_content(comparison, drawn=False)
    assert comparison.summary['score_percent_mean'].notna().all() == bool(reference)


def test_missing_failed_and_undefined_runs_are_listed():
    records = make_records()
    del records['stgu', 2, None]
    records['cagrad', 1, None]['curve'][-1]['metrics']['depth/RMSE'] = None
    wanted = expected_keys(records, list(TASKS), ['gd', 'stgu', 'uw'], [0, 1, 2], True)
    assert ('uw', 1, None) in wanted
    assert ('single', 2, 'depth') in wanted
    comparison = Comparison(HEADER, records, wanted, {('uw', 1, None): 'exit code 1', ('gd', 0, None): 'old'})
    assert gaps_table(comparison).rows == [
        ('uw, seed 1', 'failed', 'exit code 1'),
        *(
            (f'{name}, seed {seed}', 'missing', 'not in the results file')
            for name, seed in (('stgu', 2), ('uw', 0), ('uw', 2))
        ),
        ('cagrad, seed 1', 'undefined', 'no number at the end: Depth'),
    ]
    assert comparison.summary.loc['cagrad', 'score_percent_n'] == 2
    assert facts(comparison)['Gaps'] == '1 failed, 3 missing, 1 without a number'


def test_what_was_not_asked_for_is_not_missing():
    records = make_records()
    for seed in (1, 2):
        del records['cagrad', seed, None]
    del records['single', 1, 'depth']
    tasks = list(TASKS)
    missing = [key for key in expected_keys(records, tasks, [], None, True) if key not in records]
    assert missing == [('single', 1, 'depth')]
    missing = [key for key in expected_keys(records, tasks, [], [0, 1], False) if key not in records]
    assert missing == [('cagrad', 1, None)]
    missing = [key for key in expected_keys(records, tasks, ['uw'], None, False) if key not in records]
    assert missing == [('uw', seed, None) for seed in (0, 1, 2)]


def test_one_seed_decides_nothing():
    told = facts(Comparison(HEADER, make_records(seeds=(0,))))
    assert told['Against ordinary training, equal batches'] == '2 with too few runs to tell'
    assert told['Best delta_m'].startswith('stgu +4.68 %')
    assert 'one run' in told['Best delta_m']


def test_methods_and_variants_are_counted_apart():
    comparison = Comparison(HEADER, make_records())
    assert facts(comparison)['Methods'] == '3, in 4 variants'
    assert report_content(comparison, drawn=False)['title'] == '3 multi-task methods compared on 3 tasks'


class Checker(html.parser.HTMLParser):
    """Collects what matters of a page, and checks that tags are closed in order."""

    VOID = ('meta', 'img', 'link', 'br', 'input', 'hr')

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.images, self.ids = [], [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.addresses += [attributes[name] for name in ('src', 'href') if name in attributes]
        self.ids += [attributes['id']] if 'id' in attributes else []
        self.images += [attributes] if tag == 'img' else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


HOSTILE = [
    '<script>alert(1)</script>',
    '=cmd|x',
    '+1',
    '-1',
    '@SUM(1)',
    'a|b',
    '[x](y)',
    '`*_$',
    '"quoted"',
    'two\nlines',
    '\ud800\x00',
]


def test_what_the_seeds_agree_on():
    records = make_records(('gd', 'stgu'))
    rows = agreement_table(Comparison(HEADER, records)).rows
    flat = [np.array(records['stgu', seed, None]['affinity']['matrix']).ravel() for seed in (0, 1, 2)]
    off = [np.delete(vector, [0, 4, 8]) for vector in flat]
    pairs = [stats.spearmanr(off[i], off[j]).statistic for i, j in ((0, 1), (0, 2), (1, 2))]
    assert rows == [('stgu', '3', signed(statistics.mean(pairs)), NONE, NONE)]
    for seed, share in enumerate([(0.5, 0.2, 0.1), (0.8, 0.7, 0.6), (1.0, 1.0, 1.0)]):
        together = np.eye(3)
        together[np.triu_indices(3, 1)] = share
        records['stgu', seed, None]['groups']['together'] = (together + np.triu(together, 1).T).tolist()
    (row,) = agreement_table(Comparison(HEADER, records)).rows
    # What does not vary has no order to agree with.
    assert row[3:] == ('+1.00', 'semseg + depth 77%, semseg + normals 63%, depth + normals 57%')


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """A report in which everything that a results file may hold is hostile, with its folder."""
    rng = np.random.default_rng(0)
    names = itertools.cycle(HOSTILE)
    tasks = {f'{key}{next(names)}': {**TASKS[key], 'title': next(names), 'unit': next(names)} for key in TASKS}
    tasks = {key: {**task, 'metric': next(names) + task['metric']} for key, task in tasks.items()}
    runs = []
    for name, task in [('gd', None), *((name, None) for name in HOSTILE), *(('single', key) for key in tasks)]:
        run = record(name, 0, 0, rng)
        metrics = {entry['metric']: 1 + rng.random() for key, entry in tasks.items() if task in (None, key)}
        run.update(task=task, method='gd' if task else name, options={} if task else {name: name})
        run['curve'] = [{**entry, 'metrics': metrics} for entry in run['curve']]
        run['environment'] = dict(commit=name, torch=name, hardware=dict(gpus=[name, dict(name=name)]))
        run['groups'] = dict(mean=1.0, curve=[[1, 1]])
        run['affinity'] = (
            dict(iter=1, tasks=HOSTILE[:2], matrix=[[0.1, 0.2], [0.3, None]]) if name in HOSTILE[:2] else None
        )
        runs.append(run)
    records = {(run['variant'], 0, run['task']): run for run in runs}
    folder = tmp_path_factory.mktemp('report')
    errors = {(name, 1, None): name for name in HOSTILE}
    write_report(Comparison({**HEADER, 'tasks': tasks, 'config': HOSTILE[0]}, records, (), errors), folder)
    return folder


def test_the_page_needs_nothing_else_and_runs_nothing(written):
    text = (written / 'report.html').read_text()
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert all(address.startswith(('#', 'data:image/svg+xml;base64,')) for address in checker.addresses)
    assert not re.search(r'https?://|url\(|@import|<link|<script src|<script>alert', text)
    links = [address[1:] for address in checker.addresses if address.startswith('#')]
    assert links == checker.ids
    assert len(set(links)) == len(links)
    assert '&lt;script&gt;' in text
    assert len(checker.images) == 2 + 2 + len(TASKS) + 3
    assert all(image['alt'] for image in checker.images)
    for image in checker.images:
        picture = base64.b64decode(image['src'].split(',', 1)[1])
        root = ElementTree.fromstring(picture)
        assert root.tag.endswith('svg')
        references = re.findall(rb'href="([^"]*)"', picture)
        assert all(reference.startswith((b'#', b'data:')) for reference in references)
        assert b'<dc:date>' not in picture


def test_markdown_shows_hostile_text_as_it_is(written):
    text = (written / 'report.md').read_text()
    assert '<' not in text
    assert r'a\|b' in text
    assert r'\[x\](y)' in text
    assert r'\`\*\_\$' in text
    tables = re.findall(r'(?:^\|.*\|\n)+', text, re.MULTILINE)
    assert len(tables) == 9
    for table in tables:
        assert len({len(re.findall(r'(?<!\\)\|', line)) for line in table.splitlines()}) == 1
    pictures = re.findall(r'\]\((figures/.+?\.png)\)$', text, re.MULTILINE)
    assert {(written / name.replace('\\', '')).is_file() for name in pictures} == {True}
    assert len(pictures) == len(list((written / 'figures').iterdir())) == 10


@pytest.mark.parametrize('name', ['runs.csv', 'summary.csv', 'pairs.csv'])
def test_spreadsheets_run_nothing(written, name):
    cells = [cell for row in csv.reader(io.StringIO((written / name).read_text())) for cell in row]
    formulas = [cell for cell in cells if cell.startswith(('=', '+', '-', '@'))]
    assert all(re.fullmatch(r'-[\d.e-]+', cell) for cell in formulas)
    assert "'=cmd|x" in cells
    assert "'-1" in cells


def test_no_table_is_wider_than_paper():
    tasks = {f't{i}': dict(TASKS['depth'], metric=f't{i}/RMSE') for i in range(11)}
    runs = [dict(record('gd', 0, 0, np.random.default_rng(0)), method='gd')]
    for entry in runs[0]['curve']:
        entry['metrics'] = {task['metric']: 1.0 for task in tasks.values()}
    comparison = Comparison({**HEADER, 'tasks': tasks}, {('gd', 0, None): runs[0]})
    tables = [table for part in report_content(comparison, drawn=False)['parts'] for table in part['tables']]
    assert max(len(table.heads) for table in tables) == MOST_TASKS + 1
    assert all(len(row) == len(table.heads) for table in tables for row in table.rows)
    assert sum(len(table.heads) - 1 for table in tables if table.caption.startswith('Headline')) == 11


def test_only_names_that_can_be_read_stand_in_the_picture():
    rng = np.random.default_rng(0)
    runs = [record(name, 0, 0, rng) for name in ('apart', *(f'same{i}' for i in range(9)))]
    for run in runs[2:]:
        run['curve'] = runs[1]['curve']
    runs.append(record('single', 0, 0, rng, 'depth'))
    comparison = Comparison(ONE_TASK, {(run['variant'], 0, run['task']): run for run in runs})
    (picture,) = pictures(comparison)['compute']
    texts = [text.strip() for text in ElementTree.fromstring(picture.svg).itertext()]
    assert 'apart' in texts
    # Points that lie upon each other cannot be told apart: at most one name on either side.
    assert sum(text.startswith('same') for text in texts) <= 2


def test_csv_holds_all_numbers():
    records = make_records()
    records['cagrad', 1, None]['curve'][-1]['metrics']['depth/RMSE'] = None
    comparison = Comparison(HEADER, records)
    rows = list(csv.DictReader(io.StringIO(runs_csv(comparison))))
    assert len(rows) == 4 * 3 * 2 * 3 + 3 * 3 * 2
    for row in rows:
        key = (row['method'], int(row['seed']), row['task'] if row['method'] == 'single' else None)
        entry = next(entry for entry in records[key]['curve'] if entry['iter'] == int(row['iteration']))
        value = entry['metrics'][row['metric']]
        assert row['value'] == ('' if value is None else repr(value))
        assert float(row['seconds']) == entry['cost']['seconds']
        if row['method'] == 'stgu' and row['iteration'] == '100':
            assert float(row['score_percent']) == pytest.approx(slow_delta_m(records, 'stgu', key[1]))
    lines = list(csv.DictReader(io.StringIO(summary_csv(comparison))))
    by_name = {line['method']: line for line in lines}
    assert float(by_name['stgu']['score_percent_mean']) == comparison.summary.loc['stgu', 'score_percent_mean']
    assert json.loads(by_name['gd[passes=3]']['options']) == {'passes': 3}
    assert by_name['cagrad']['score_percent_n'] == '2'
    assert by_name['stgu']['nearest_compute'] == 'gd[passes=3]'
    assert float(by_name['gd']['backward_equivalents']) == 150


def test_the_same_results_give_the_same_files(tmp_path):
    records = make_records(names=('gd', 'stgu'), seeds=(0, 1))
    for folder, runs in (('a', records), ('b', dict(reversed(records.items())))):
        write_report(Comparison(ONE_TASK, runs), tmp_path / folder)
    names = sorted(path.relative_to(tmp_path / 'a') for path in (tmp_path / 'a').rglob('*.*'))
    assert len(names) == 5 + 7
    for name in names:
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes(), name


def test_costs_may_be_unknown():
    records = make_records(names=('gd', 'stgu'))
    for run in records.values():
        for entry in run['curve']:
            entry['cost'] = {}
    comparison = Comparison(ONE_TASK, records)
    assert not comparison.summary['on_front'].any()
    assert comparison.summary.loc['stgu', 'nearest_compute'] == ''
    assert facts(comparison)['Against ordinary training, equal compute'] == 'nothing to compare with'
    assert not pictures(comparison)['compute']


def write_results(path, records):
    path.write_text(json.dumps({**HEADER, 'runs': list(records.values())}))


def test_report_only_needs_a_results_file_alone(tmp_path, capsys):
    write_results(tmp_path / 'r.json', make_records(names=('gd',), seeds=(0,)))
    assert compare.main(['--report-only', '--results', str(tmp_path / 'r.json'), '--methods', 'gd,uw']) == 0
    folder = tmp_path / 'report'
    assert {path.name for path in folder.iterdir()} == {
        'figures',
        'report.html',
        'report.md',
        'runs.csv',
        'summary.csv',
        'pairs.csv',
    }
    assert '| uw, seed 0 | missing |' in (folder / 'report.md').read_text()


@pytest.mark.parametrize('value', [1e308, math.inf, math.nan, 10**400], ids=['large', 'inf', 'nan', 'huge'])
def test_numbers_that_nothing_can_be_computed_with_are_undefined(value):
    records = make_records(names=('gd', 'stgu'), seeds=(0,), single=False)
    run = records['stgu', 0, None]
    run['curve'][-1]['metrics']['depth/RMSE'] = run['groups']['mean'] = run['curve'][-1]['cost']['seconds'] = value
    row = Comparison(HEADER, records).summary.loc['stgu']
    assert row[['depth_value_mean', 'score_percent_mean', 'groups', 'seconds_per_iteration']].isna().all()


@pytest.mark.parametrize('iteration', [0, 10**400], ids=['none', 'huge'])
def test_validations_at_no_iteration_are_refused(tmp_path, iteration):
    records = make_records(names=('gd',), seeds=(0,), single=False)
    records['gd', 0, None]['curve'][0]['iter'] = iteration
    write_results(tmp_path / 'r.json', records)
    with pytest.raises(ValueError, match=r'runs\[0\].curve .* has an iter that is no number of iterations'):
        compare.main(['--report-only', '--results', str(tmp_path / 'r.json')])


def test_report_only_refuses_what_is_not_there(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match='no results file'):
        compare.main(['--report-only', '--work-dir', str(tmp_path)])
    (tmp_path / 'r.json').write_text('{"version": 1, "runs": []}')
    with pytest.raises(ValueError, match=r'no config, tasks, max_iters'):
        compare.main(['--report-only', '--results', str(tmp_path / 'r.json')])
    write_results(tmp_path / 'r.json', {})
    assert compare.main(['--report-only', '--results', str(tmp_path / 'r.json')]) == 0
    assert 'no report' in capsys.readouterr().out
    for arguments in (['--report-only'], ['x.py'], ['--methods', 'gd']):
        with pytest.raises(SystemExit) as stop:
            compare.main(arguments)
        assert stop.value.code == 2


def test_a_comparison_needs_a_run():
    with pytest.raises(ValueError, match='no finished run of a method'):
        Comparison(HEADER, make_records(names=()))


def test_a_missing_package_is_told_before_anything_is_trained(monkeypatch):
    for name in [name for name in sys.modules if name.startswith('mtl_plugins.experiments.report')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'pandas', None)
    with pytest.raises(UserImportError, match='the report of a comparison needs pandas: pip install pandas'):
        compare.main(['no_such_config.py', '--methods', 'gd'])
