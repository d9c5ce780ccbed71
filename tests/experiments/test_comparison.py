import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from mtl_plugins.cli import compare
from mtl_plugins.config import load_config
from mtl_plugins.experiments.compare import (
    RecordStore,
    Variant,
    comparison_header,
    mean_groups,
    ordered,
    parse_variants,
    variant_run,
)
from mtl_plugins.experiments.compare.records import make_record
from mtl_plugins.experiments.runs import executor, training_run
from tests.support.tiny import ROOMS, options

TINY = [*options(), 'experiment_name=comparison']
METRICS = {'semseg/mIoU': 30.0, 'depth/RMSE': 1.0, 'normals/mean': 20.0, 'edge/odsF_greedy': 40.0, 'sal/maxF': 80.0}


def test_variants_are_read():
    text = 'gd, stgu,random=stgu[grouper.type=Random,grouper.max_groups=2],gd[passes=@stgu],'
    text += 'f=stgu[grouper.groups=[[a,b],[c]]]'
    gd, stgu, random, equal, fixed = parse_variants(text)
    assert gd == Variant('gd', 'gd')
    assert random == Variant('random', 'stgu', {'grouper.type': 'Random', 'grouper.max_groups': 2})
    assert (equal.name, equal.references) == ('gd[passes=@stgu]', ('stgu',))
    assert fixed.options == {'grouper.groups': [['a', 'b'], ['c']]}
    assert [variant.name for variant in ordered([equal, gd, stgu])] == ['gd', 'stgu', equal.name]


@pytest.mark.parametrize(
    ('text', 'error', 'message'),
    [
        ('gd,dg', KeyError, "unknown method 'dg'"),
        ('gd,gd', ValueError, 'gd occurs more than once'),
        ('single=gd', ValueError, 'that of the single-task models'),
        ('gd[passes]', ValueError, "'passes' .* not of the form option=value"),
        ('gd[passes=2', ValueError, 'brackets'),
        ('gd passes', ValueError, 'expected METHOD'),
        ('gd[passes=@stgu]', ValueError, 'refers to @stgu: there is no other method here'),
        ('stgu,gd[passes=@stg]', ValueError, "refers to @stg: did you mean 'stgu'"),
        ('stgu,a=gd[passes=@stgu],b=gd[passes=@a]', ValueError, 'itself refers to another'),
    ],
)
def test_mistakes_in_variants_are_named(text, error, message):
    with pytest.raises(error, match=message):
        parse_variants(text)


@pytest.fixture
def trainings(monkeypatch):
    """Replaces the processes by fakes; lists what was started, and lets some fail."""

    class Fake:
        started = []
        failing = set()

        def __init__(self, command, stdout, env, start_new_session, **kwargs):
            folder = Path(command[command.index('--work-dir') + 1])
            name = folder.relative_to(Fake.root).as_posix()
            Fake.started.append(name)
            cost = dict(forwards=6, backwards=4, seconds=1.5, memory_mib=100.0)
            entry = dict(iter=2, metrics={**METRICS, 'depth/abs_rel': None}, cost=cost)
            (folder / 'metrics.json').write_text(json.dumps([entry]))
            if 'stgu' in name:
                log = folder / '20260101_000000'
                log.mkdir(exist_ok=True)
                tasks = [key.split('/')[0] for key in METRICS]
                square = [[0.1] * 5 for _ in tasks]
                lines = [
                    dict(iter=i, tasks=tasks, affinity=square, groups=[[t] for t in tasks], num_groups=m)
                    for i, m in ((1, 5), (2, 2))
                ]
                (log / 'affinity.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
            stdout.write(b'RuntimeError: no luck\n')
            self.code = int(name in Fake.failing)

        def poll(self):
            return self.code

        def terminate(self):
            pass

        def wait(self):
            return 75

    monkeypatch.setattr(training_run, 'subprocess', SimpleNamespace(Popen=Fake, STDOUT=None, DEVNULL=None))
    monkeypatch.setattr(executor, 'time', SimpleNamespace(sleep=lambda seconds: None))
    # Its tests are elsewhere, and its pictures take long.
    monkeypatch.setattr('mtl_plugins.experiments.report.writing.pictures', lambda comparison: {})
    return Fake


def start(trainings, tmp_path, methods, *arguments):
    trainings.root = tmp_path / 'runs'
    trainings.started.clear()
    return compare.main([ROOMS, '--methods', methods, '--work-dir', str(trainings.root), *TINY, *map(str, arguments)])


def runs_in(tmp_path):
    content = json.loads((tmp_path / 'runs' / 'results.json').read_text())
    return {(run['variant'], run['seed'], run['task']): run for run in content['runs']}


def test_what_is_missing_is_trained_and_kept(trainings, tmp_path, capsys):
    assert start(trainings, tmp_path, 'gd,stgu', '--seeds', '0,1') == 0
    tasks = [key.split('/')[0] for key in METRICS]
    singles = [f'single/{task}/seed_{seed}' for seed in (0, 1) for task in tasks]
    assert sorted(trainings.started) == sorted([*singles, *(f'{m}/seed_{s}' for m in ('gd', 'stgu') for s in (0, 1))])
    runs = runs_in(tmp_path)
    assert len(runs) == 14
    record = runs['stgu', 1, None]
    assert record['curve'][0]['metrics'] == METRICS
    assert record['curve'][0]['cost']['backwards'] == 4
    assert record['metrics']['depth/abs_rel'] is None
    assert record['groups'] == dict(mean=3.5, curve=[[1, 5], [2, 2]])
    assert record['affinity']['tasks'] == tasks
    assert runs['gd', 0, None]['groups'] is None
    # Nothing twice; a further method is added to the same file.
    assert start(trainings, tmp_path, 'gd,stgu', '--seeds', '0,1') == 0
    assert trainings.started == []
    assert start(trainings, tmp_path, 'gd,stgu,uw', '--seeds', '0,1') == 0
    assert trainings.started == ['uw/seed_0', 'uw/seed_1']
    # The runs may be gone, as long as the results are there.
    (tmp_path / 'runs' / 'gd').rename(tmp_path / 'elsewhere')
    assert start(trainings, tmp_path, 'gd', '--seeds', '0') == 0
    assert trainings.started == []


def test_a_log_of_groups_may_be_empty(tmp_path):
    entry = dict(iter=2, metrics=METRICS, cost={})
    (tmp_path / 'metrics.json').write_text(json.dumps([entry]))
    (tmp_path / '20260101_000000').mkdir()
    (tmp_path / '20260101_000000' / 'affinity.jsonl').touch()
    record = make_record(('stgu', 0, None), 'stgu', {}, 'x', tmp_path, set(METRICS))
    assert record['groups'] is record['affinity'] is None


def test_references_wait_for_what_they_refer_to(trainings, tmp_path):
    assert start(trainings, tmp_path, 'equal=gd[passes=@stgu],stgu', '--seeds', '0,1', '--no-single-task') == 0
    assert trainings.started == ['stgu/seed_0', 'stgu/seed_1', 'equal/seed_0', 'equal/seed_1']
    assert runs_in(tmp_path)['equal', 0, None]['options'] == {'passes': 4}
    with pytest.raises(ValueError, match='have no groups to count'):
        start(trainings, tmp_path, 'uw,equal2=gd[passes=@uw]', '--no-single-task')


def test_one_failure_stops_neither_the_rest_nor_the_next_attempt(trainings, tmp_path, capsys):
    trainings.failing = {'uw/seed_0'}
    assert start(trainings, tmp_path, 'gd,uw,rlw', '--no-single-task') == 1
    assert trainings.started == ['gd/seed_0', 'uw/seed_0', 'rlw/seed_0']
    assert 'uw, seed 0: failed: exit code 1: RuntimeError: no luck' in capsys.readouterr().out
    assert set(runs_in(tmp_path)) == {('gd', 0, None), ('rlw', 0, None)}
    trainings.failing = set()
    assert start(trainings, tmp_path, 'gd,uw,rlw', '--no-single-task') == 0
    assert trainings.started == ['uw/seed_0']


def test_results_of_other_settings_are_not_mixed(trainings, tmp_path):
    assert start(trainings, tmp_path, 'gd', '--no-single-task') == 0
    with pytest.raises(ValueError, match='gd, seed 0 with other settings'):
        start(trainings, tmp_path, 'gd', '--no-single-task', '--cfg-options', 'optim_wrapper.optimizer.lr=1')
    with pytest.raises(ValueError, match='results for another max_iters'):
        start(trainings, tmp_path, 'gd', '--no-single-task', '--cfg-options', 'train_cfg.max_iters=4')
    (tmp_path / 'runs' / 'results.json').write_text('{"runs": 3}')
    with pytest.raises(ValueError, match='does not hold the results of a comparison'):
        start(trainings, tmp_path, 'gd', '--no-single-task')


def test_wrong_arguments_give_2(capsys):
    with pytest.raises(SystemExit) as stop:
        compare.main([ROOMS, '--methods', 'gd,dg'])
    assert stop.value.code == 2
    assert "unknown method 'dg'" in capsys.readouterr().err


def test_a_config_without_heads_is_refused(tmp_path):
    cfg = load_config(ROOMS)
    cfg.model.pop('heads')
    with pytest.raises(ValueError, match='needs a model with heads'):
        comparison_header(cfg, 'x.py')


def test_the_config_of_a_variant(tmp_path):
    cfg = load_config(ROOMS)
    store = RecordStore(tmp_path / 'r.json', comparison_header(cfg, 'x.py'))
    variant = Variant('r', 'stgu', {'grouper.type': 'Random', 'warmup_iters': 7})
    run = variant_run(cfg, variant, 3, tmp_path, store, lambda name: None)
    assert run.cfg.optim_wrapper.grouper.type == 'Random'
    assert run.cfg.optim_wrapper.warmup_iters == 7
    assert run.cfg.randomness.seed == 3
    assert variant_run(cfg, Variant('e', 'gd', {'passes': '@r'}), 3, tmp_path, store, lambda name: None) is None
    assert mean_groups({}, 'r', [0]) is None
