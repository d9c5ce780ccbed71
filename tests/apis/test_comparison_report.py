import base64
import csv
import html.parser
import io
import json
import math
import re
import statistics
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from scipy import stats

from mtl_plugins.cli import compare
from mtl_plugins.experiments.report import Comparison, expected_keys, write_report
from mtl_plugins.experiments.report.document import build_document
from mtl_plugins.experiments.report.markdown import to_markdown
from mtl_plugins.experiments.report.page import to_html
from mtl_plugins.experiments.report.statistics import Sample, difference, mean_curve
from mtl_plugins.experiments.report.words import summary

TASKS = {
    'semseg': dict(title='Semantic segmentation', metric='semseg/mIoU', unit='%', higher_is_better=True),
    'depth': dict(title='Depth', metric='depth/RMSE', unit='m', higher_is_better=False),
    'normals': dict(title='Surface normals', metric='normals/mean', unit='deg', higher_is_better=False),
}
HEADER = dict(version=1, config='tiny.py', tasks=TASKS, max_iters=100)
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
        change = (last(records, (name, seed, None), task) - base) / base * 100
        changes.append(change if entry['higher_is_better'] else -change)
    return statistics.mean(changes)


def test_statistics_equal_slow_ones():
    records = make_records()
    comparison = Comparison(HEADER, records)
    assert [variant.name for variant in comparison.variants] == ['stgu', 'gd[passes=3]', 'cagrad', 'gd']
    for variant in comparison.variants:
        values = [slow_delta_m(records, variant.name, seed) for seed in (0, 1, 2)]
        assert variant.score.values == pytest.approx(values)
        assert variant.score.deviation == pytest.approx(statistics.stdev(values))
        interval = stats.t.interval(0.95, 2, statistics.mean(values), stats.sem(values))
        assert variant.score.interval == pytest.approx(interval)
        depth = [last(records, (variant.name, seed, None), 'depth') for seed in (0, 1, 2)]
        assert variant.result('depth').mean == pytest.approx(statistics.mean(depth))
    stgu, gd = comparison.variant('stgu'), comparison.variant('gd')
    welch = stats.ttest_ind(stgu.score.values, gd.score.values, equal_var=False).confidence_interval(0.95)
    assert difference(stgu.score, gd.score).interval == pytest.approx((welch.low, welch.high))
    assert comparison.variant('cagrad').relative_compute == pytest.approx(1.3)
    assert comparison.single_compute == pytest.approx(300)


def test_the_noise_of_the_reference_is_that_of_many_draws():
    reference = Comparison(HEADER, make_records()).reference
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(4000):
        shares = [rng.normal(s.mean, s.deviation, s.count).mean() / s.mean for s in reference.samples.values()]
        draws.append(100 * np.mean(shares))
    assert reference.error == pytest.approx(np.std(draws), rel=0.06)


def test_few_or_undefined_values_claim_nothing():
    assert Sample.of([]).count == 0
    assert math.isnan(Sample.of([]).mean)
    one = Sample.of([3.0, math.nan, None])
    assert (one.mean, one.deviation, one.interval, one.undefined) == (3.0, None, None, 2)
    assert difference(one, Sample.of([1.0, 2.0])).verdict == 'unknown'
    assert difference(Sample.of([2.0, 2.0]), Sample.of([1.0, 1.0])).verdict == 'ahead'
    assert difference(Sample.of([1.0, 2.0]), Sample.of([1.1, 2.1])).verdict == 'undecided'
    assert mean_curve([[(1, 2.0), (2, 4.0)], [(2, math.nan)]]) == [(2, 4.0)]
    assert mean_curve([]) == []


def test_front_and_pairs():
    comparison = Comparison(HEADER, make_records())
    assert comparison.front() == ['gd', 'cagrad', 'gd[passes=3]', 'stgu']
    pairs = {pair.variant.name: pair for pair in comparison.pairs()}
    assert set(pairs) == {'stgu', 'cagrad'}
    assert pairs['stgu'].equal_batches.name == pairs['cagrad'].equal_compute.name == 'gd'
    assert pairs['stgu'].equal_compute.name == 'gd[passes=3]'
    assert pairs['stgu'].matched
    # 1.3 times the compute is not the same compute.
    assert not pairs['cagrad'].matched
    gap = pairs['stgu'].over_compute
    assert gap.mean == pytest.approx(pairs['stgu'].variant.score.mean - comparison.variant('gd[passes=3]').score.mean)
    assert gap.verdict == 'ahead'


def test_the_front_has_no_beaten_one():
    rng = np.random.default_rng(3)
    names = [f'm{i}' for i in range(30)]
    runs = [record(name, 0, rng.normal(0, 5), rng, passes=float(rng.integers(1, 6))) for name in names]
    runs += [record('single', 0, 0, rng, task) for task in TASKS]
    comparison = Comparison(HEADER, {(run['variant'], 0, run['task']): run for run in runs})
    points = {v.name: (v.compute, v.score.mean) for v in comparison.variants}
    front = comparison.front()
    for name, (compute, gain) in points.items():
        beaten = any(c <= compute and g > gain for c, g in points.values())
        assert (name in front) != beaten


@pytest.mark.parametrize(
    ('drop', 'single_task', 'words'),
    [
        (lambda key: False, True, 'against single-task models'),
        (lambda key: key[0] == 'single', False, 'no single-task models'),
        (lambda key: key[0] == 'single' and key[2] == 'depth', None, 'some are not finished'),
        (lambda key: key[0] in ('single', 'gd'), None, 'no plain `gd` either'),
    ],
)
def test_what_results_are_measured_against(drop, single_task, words):
    records = {key: run for key, run in make_records().items() if not drop(key)}
    comparison = Comparison(HEADER, records)
    assert (comparison.reference and comparison.reference.single_task) == single_task
    assert words in summary(comparison)[0]
    build_document(comparison)
    if single_task is None:
        assert all(math.isnan(variant.score.mean) for variant in comparison.variants)


def test_missing_failed_and_undefined_runs_are_listed():
    records = make_records()
    del records['stgu', 2, None]
    records['cagrad', 1, None]['curve'][-1]['metrics']['depth/RMSE'] = None
    wanted = expected_keys(records, list(TASKS), ['gd', 'stgu', 'uw'], [0, 1, 2], True)
    assert ('uw', 1, None) in wanted
    assert ('single', 2, 'depth') in wanted
    comparison = Comparison(HEADER, records, wanted, {('uw', 1, None): 'exit code 1: a | b', ('gd', 0, None): 'old'})
    assert set(comparison.errors) == {('uw', 1, None)}
    assert comparison.missing == [('stgu', 2, None), ('uw', 0, None), ('uw', 2, None)]
    assert comparison.variant('cagrad').score.undefined == 1
    text = to_markdown(build_document(comparison))
    assert '| `uw, seed 1` | failed | exit code 1: a \\| b |' in text
    assert '| `uw` | missing | not in the results file: seeds 0, 2 |' in text
    assert '| `cagrad, seed 1` | undefined | no number for Depth at the end |' in text
    assert '3 (1 undefined)' in text
    assert '1 run failed; 3 runs are missing' in summary(comparison)[-1]


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


def test_a_single_run_ahead_of_repeated_ones_decides_nothing():
    records = make_records()
    for seed in (1, 2):
        del records['stgu', seed, None]
    text = ' '.join(summary(Comparison(HEADER, records)))
    assert 'One run of `stgu` cannot tell whether it is ahead' in text
    assert 'Of those with several runs, the highest was that of `gd[passes=3]`' in text
    assert 'with too few runs for an interval: above it `stgu`' in text


def test_one_seed_claims_no_difference():
    comparison = Comparison(HEADER, make_records(seeds=(0,)))
    text = ' '.join(summary(comparison))
    assert 'With one run per method, differences cannot be told' in text
    assert 'too few runs for an interval: above it `stgu`' in text
    assert 'beyond the spread' not in text
    build_document(comparison)


def test_the_summary_says_what_the_intervals_say():
    text = ' '.join(summary(Comparison(HEADER, make_records())))
    assert 'The highest delta_m was that of `stgu`' in text
    assert 'ahead of it beyond the spread of the runs: `stgu` and `cagrad`' in text
    assert 'For 1 more method there is no ordinary training of like compute.' in text
    assert '**Gaps' not in text


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


def test_the_page_needs_nothing_else(tmp_path):
    records = make_records()
    records['<b>&', 0, None] = {**records['gd', 0, None], 'variant': '<b>&', 'method': 'uw'}
    text = to_html(build_document(Comparison(HEADER, records)))
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert all(address.startswith(('#', 'data:image/svg+xml;base64,')) for address in checker.addresses)
    assert not re.search(r'https?://|url\(|@import|<link|<script src', text)
    links = [address[1:] for address in checker.addresses if address.startswith('#')]
    assert links == checker.ids
    assert len(set(links)) == len(links)
    assert '<code>&lt;b&gt;&amp;</code>' in text
    assert len(checker.images) == 2 + 2 + len(TASKS) + 2
    assert all(image['alt'] for image in checker.images)
    for image in checker.images:
        picture = base64.b64decode(image['src'].split(',', 1)[1])
        root = ElementTree.fromstring(picture)
        assert root.tag.endswith('svg')
        references = re.findall(rb'href="([^"]*)"', picture)
        assert all(reference.startswith((b'#', b'data:')) for reference in references)
        assert b'<dc:date>' not in picture


def test_csv_holds_all_numbers(tmp_path):
    records = make_records()
    records['cagrad', 1, None]['curve'][-1]['metrics']['depth/RMSE'] = None
    comparison = Comparison(HEADER, records)
    write_report(comparison, tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / 'runs.csv').read_text())))
    assert len(rows) == 4 * 3 * 2 * 3 + 3 * 3 * 2
    for row in rows:
        key = (row['method'], int(row['seed']), row['task'] if row['method'] == 'single' else None)
        entry = next(entry for entry in records[key]['curve'] if entry['iter'] == int(row['iteration']))
        value = entry['metrics'][row['metric']]
        assert row['value'] == ('' if value is None else repr(value))
        assert float(row['seconds']) == entry['cost']['seconds']
        if row['method'] == 'stgu' and row['iteration'] == '100':
            assert float(row['score_percent']) == pytest.approx(slow_delta_m(records, 'stgu', key[1]))
    lines = list(csv.DictReader(io.StringIO((tmp_path / 'summary.csv').read_text())))
    by_name = {line['method']: line for line in lines}
    assert float(by_name['stgu']['score_percent_mean']) == comparison.variant('stgu').score.mean
    assert json.loads(by_name['gd[passes=3]']['options']) == {'passes': 3}
    assert by_name['cagrad']['score_percent_n'] == '2'
    assert by_name['stgu']['nearest_compute'] == 'gd[passes=3]'
    assert float(by_name['gd']['backward_equivalents']) == 150


def test_the_same_results_give_the_same_files(tmp_path):
    for folder, records in (('a', make_records()), ('b', dict(reversed(make_records().items())))):
        write_report(Comparison(HEADER, records), tmp_path / folder)
    names = sorted(path.relative_to(tmp_path / 'a') for path in (tmp_path / 'a').rglob('*.*'))
    assert len(names) == 4 + 9
    for name in names:
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes(), name
    text = (tmp_path / 'a' / 'report.md').read_text()
    for name in re.findall(r'src="([^"]+)"', text):
        assert (tmp_path / 'a' / name).is_file()
    tables = re.findall(r'(?:^\|.*\|\n)+', text, re.MULTILINE)
    assert len(tables) == 4
    for table in tables:
        assert len({len(re.findall(r'(?<!\\)\|', line)) for line in table.splitlines()}) == 1


def test_costs_may_be_unknown():
    records = make_records(names=('gd', 'stgu'))
    for run in records.values():
        for entry in run['curve']:
            entry['cost'] = {}
    comparison = Comparison(HEADER, records)
    assert comparison.front() == []
    assert comparison.pairs()[0].equal_compute is None
    text = to_markdown(build_document(comparison))
    assert 'figures/compute.png' not in text
    assert 'At equal compute** nothing can be said' in text


def write_results(path, records):
    path.write_text(json.dumps({**HEADER, 'runs': list(records.values())}))


def test_report_only_needs_a_results_file_alone(tmp_path, capsys):
    write_results(tmp_path / 'r.json', make_records(names=('gd', 'stgu'), seeds=(0,)))
    assert compare.main(['--report-only', '--results', str(tmp_path / 'r.json'), '--out', str(tmp_path / 'o')]) == 0
    assert {path.name for path in (tmp_path / 'o').iterdir()} == {
        'figures',
        'report.html',
        'report.md',
        'runs.csv',
        'summary.csv',
    }
    assert compare.main(['--report-only', '--results', str(tmp_path / 'r.json'), '--methods', 'gd,uw']) == 0
    assert '| `uw` | missing |' in (tmp_path / 'report' / 'report.md').read_text()


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
