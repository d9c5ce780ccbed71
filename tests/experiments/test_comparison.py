import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from mtl_plugins.cli import compare
from mtl_plugins.config import load_config
from mtl_plugins.errors import UserError
from mtl_plugins.experiments.compare import (
    RecordStore,
    Tuning,
    Variant,
    comparison_header,
    ordered,
    parse_grid,
    parse_variants,
    variant_run,
)
from mtl_plugins.experiments.compare.keys import Key
from mtl_plugins.experiments.compare.length import stretch
from mtl_plugins.experiments.compare.records import make_record
from mtl_plugins.experiments.compare.tuning import choose
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
        groups = {}
        best = {}

        def __init__(self, command, stdout, env, start_new_session, **kwargs):
            folder = Path(command[command.index('--work-dir') + 1])
            name = folder.relative_to(Fake.root).as_posix()
            Fake.started.append(name)
            settings = json.loads((folder / 'settings.json').read_text())
            length, rate = settings['train_cfg']['max_iters'], settings['optim_wrapper']['optimizer']['lr']
            passes = length * (2.5 if 'stgu' in name.split('_')[0] else 2)
            cost = dict(forwards=passes + 2, backwards=passes, seconds=0.75 * passes / 2, memory_mib=100.0)
            best = Fake.best.get(name.split('/')[0])
            metrics = {**METRICS, 'depth/RMSE': METRICS['depth/RMSE'] + (abs(rate - best) if best else 0)}
            entry = dict(iter=length, metrics={**metrics, 'depth/abs_rel': None}, cost=cost)
            (folder / 'metrics.json').write_text(json.dumps([entry]))
            if 'stgu' in name:
                log = folder / '20260101_000000'
                log.mkdir(exist_ok=True)
                tasks = [key.split('/')[0] for key in METRICS]
                square = [[0.1] * 5 for _ in tasks]
                lines = [
                    dict(iter=i, tasks=tasks, affinity=square, groups=groups, num_groups=m)
                    for i, m, groups in (
                        (1, 5, [[task] for task in tasks]),
                        (2, Fake.groups.get(name, 2), [tasks[::2], tasks[1::2]]),
                    )
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

    monkeypatch.setattr(training_run, 'can_fork', lambda: False)
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
    assert record['curve'][0]['cost']['backwards'] == 5
    assert record['metrics']['depth/abs_rel'] is None
    together = record['groups'].pop('together')
    assert together == [[1.0 if i == j else 0.5 * ((i - j) % 2 == 0) for j in range(5)] for i in range(5)]
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
    record = make_record(Key('stgu', 0), 'stgu', {}, 'x', tmp_path, set(METRICS))
    assert record['groups'] is record['affinity'] is None


def test_references_wait_for_what_they_refer_to(trainings, tmp_path):
    assert start(trainings, tmp_path, 'equal=gd[passes=@stgu],stgu', '--seeds', '0,1', '--no-single-task') == 0
    assert trainings.started == ['stgu/seed_0', 'stgu/seed_1', 'equal/seed_0', 'equal/seed_1']
    assert runs_in(tmp_path)['equal', 0, None]['options'] == {'passes': 4}
    # More seeds do not change what was trained before, whatever the mean over all of them is.
    trainings.groups = {'stgu/seed_2': 9}
    methods = 'equal=gd[passes=@stgu],stgu'
    assert start(trainings, tmp_path, methods, '--seeds', '0,1,2', '--no-single-task') == 0
    assert trainings.started == ['stgu/seed_2', 'equal/seed_2']
    assert runs_in(tmp_path)['equal', 2, None]['options'] == {'passes': 4}
    with pytest.raises(ValueError, match='give it another name'):
        start(trainings, tmp_path, 'equal=gd[passes=2*@stgu],stgu', '--no-single-task')
    # Told before anything is trained.
    with pytest.raises(ValueError, match='have no groups to count'):
        start(trainings, tmp_path, 'uw,equal2=gd[passes=@uw]', '--no-single-task')
    assert trainings.started == []


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
    defaults = ['optim_wrapper.optimizer.eps=1e-8', 'optim_wrapper.clip_grad=None', 'train_dataloader.num_workers=2']
    defaults += ['optim_wrapper.optimizer.fused=True', 'custom_hooks=[dict(type="mtl_plugins.ChannelsLastHook")]']
    assert start(trainings, tmp_path, 'gd', '--no-single-task', '--cfg-options', *defaults) == 0
    assert trainings.started == []
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
    for name in ('train_dataloader', 'val_dataloader'):  # which --tune looks into
        with pytest.raises(ValueError, match='needs a model with heads'):
            comparison_header(Config({**cfg.to_dict(), name: None}), 'x.py')
    cfg.model.pop('heads')
    with pytest.raises(ValueError, match='needs a model with heads'):
        comparison_header(cfg, 'x.py')


def test_the_unit_of_a_headline_is_that_of_its_metric(tmp_path):
    """A file that a former version wrote, with the unit of the default metric, is gone on with."""
    cfg = load_config(ROOMS)
    path = tmp_path / 'results.json'
    assert comparison_header(cfg, 'x.py')['tasks']['depth']['unit'] == 'm'
    cfg.val_evaluator.headlines = dict(depth=dict(metric='depth/abs_rel'))
    header = comparison_header(cfg, 'x.py')
    assert header['tasks']['depth'] == dict(title='Depth', metric='depth/abs_rel', unit='', higher_is_better=False)
    RecordStore(path, header).save()
    path.write_text(path.read_text().replace('"unit": ""', '"unit": "m"'))
    assert RecordStore(path, header).header['tasks'] == header['tasks']
    cfg.val_evaluator.headlines.depth = dict(metric='depth/delta1', higher_is_better=True, unit='percent')
    assert comparison_header(cfg, 'x.py')['tasks']['depth']['unit'] == 'percent'


def test_the_config_of_a_variant(tmp_path):
    cfg = load_config(ROOMS)
    store = RecordStore(tmp_path / 'r.json', comparison_header(cfg, 'x.py'))
    variant = Variant('r', 'stgu', {'grouper.type': 'Random', 'warmup_iters': 7})
    run = variant_run(cfg, variant, 3, tmp_path, store)
    assert run.cfg.optim_wrapper.grouper.type == 'Random'
    assert run.cfg.optim_wrapper.warmup_iters == 7
    assert run.cfg.randomness.seed == 3


def test_every_method_gets_a_rate_of_its_own(trainings, tmp_path, capsys):
    trainings.best = {'gd': 2e-3, 'stgu': 1e-3}
    trainings.failing = {'stgu/optimizer.lr_0.0005_held_out/seed_0'}
    arguments = ['--tune', 'optimizer.lr=5e-4,1e-3,2e-3', '--seeds', '0,1', '--no-single-task']
    assert start(trainings, tmp_path, 'gd,stgu,pinned=uw[optimizer.lr=0.1]', *arguments) == 1
    rates = [0.0005, 0.001, 0.002]
    trials = [f'{name}/optimizer.lr_{rate}_held_out/seed_0' for name in ('gd', 'stgu') for rate in rates]
    finals = [f'{name}/optimizer.lr_{rate}' for name, rate in (('gd', 0.002), ('stgu', 0.001), ('stgu', 0.002))]
    finals = [f'{folder}/seed_{seed}' for folder in (*finals, 'pinned') for seed in (0, 1)]
    assert sorted(trainings.started) == sorted(trials + finals)
    # Whatever is trained on the held-out part waits until all that chooses is finished.
    assert trainings.started.index(finals[0]) > max(trainings.started.index(name) for name in trials[:3])
    told = capsys.readouterr().out
    assert 'chosen for gd: optimizer.lr=0.002 (optimizer.lr at the border of the grid' in told
    assert 'chosen for stgu: optimizer.lr=0.001\n' in told
    content = json.loads((tmp_path / 'runs' / 'results.json').read_text())
    assert content['tuning'] == dict(grid={'optimizer.lr': rates}, share=0.1, seeds=[0], shared='gd')
    (failure,) = content['failed']
    assert failure['error'].startswith('exit code 1: RuntimeError: no luck')
    report = (tmp_path / 'runs' / 'report' / 'report.md').read_text()
    assert 'stgu at optimizer.lr=0.0005 on the held-out part, seed 0' in report
    # A failure is tried again and then no longer told; a wider grid keeps what was trained.
    trainings.failing = set()
    arguments[1] += ',4e-3'
    assert start(trainings, tmp_path, 'gd,stgu,pinned=uw[optimizer.lr=0.1]', *arguments) == 0
    assert sorted(trainings.started) == [
        'gd/optimizer.lr_0.004_held_out/seed_0',
        'stgu/optimizer.lr_0.0005_held_out/seed_0',
        'stgu/optimizer.lr_0.004_held_out/seed_0',
    ]
    assert 'failed' not in json.loads((tmp_path / 'runs' / 'results.json').read_text())
    # The set that chose is not the set that scores.
    one = load_config(next(tmp_path.glob('runs/gd/*002_held_out/seed_0/config/*.py')))
    chosen = one.val_dataloader.dataset
    assert (chosen.held_out, one.train_dataloader.dataset.held_out) == (True, False)
    assert chosen.dataset.split == one.train_dataloader.dataset.dataset.split == 'train'
    assert load_config(next(tmp_path.glob('runs/gd/*002/seed_0/config/*.py'))).val_dataloader.dataset.split == 'val'


def test_values_that_are_tried_later_take_none_from_what_was_chosen(trainings, tmp_path):
    trainings.best = {'gd': 5e-4, 'uw': 4e-3}
    arguments = ['--seeds', '0,1', '--no-single-task', '--tune']
    assert start(trainings, tmp_path, 'gd', *arguments, 'optimizer.lr=5e-4,1e-3,2e-3') == 0
    assert start(trainings, tmp_path, 'uw', *arguments, 'optimizer.lr=4e-3,2e-3') == 0
    assert [name for name in trainings.started if '_held_out' not in name] == [
        f'uw/optimizer.lr_{rate}/seed_{seed}' for seed in (0, 1) for rate in (0.0005, 0.004)
    ]
    content = json.loads((tmp_path / 'runs' / 'results.json').read_text())
    assert content['tuning'] == dict(grid={'optimizer.lr': [5e-4, 1e-3, 2e-3, 4e-3]}, share=0.1, seeds=[0], shared='gd')
    report = (tmp_path / 'runs' / 'report' / 'report.md').read_text()
    border = '[|] optimizer.lr [|]'  # of what each was tried with
    assert re.search(rf'[|] gd .* optimizer.lr=0.0005 {border} 3 of 4 values', report)
    assert re.search(rf'[|] uw .* optimizer.lr=0.004 {border} 2 of 4 values', report)
    # The former variant again: its choice is not on this grid.
    assert start(trainings, tmp_path, 'gd', *arguments, 'optimizer.lr=2e-3,4e-3') == 0
    assert trainings.started == ['gd/optimizer.lr_0.004_held_out/seed_0']
    for option, values in (('--tune-seeds', '1'), ('--tune-on', '0.2'), ('--tune', 'optimizer.weight_decay=0,1')):
        more = [*arguments, 'optimizer.lr=2e-3,4e-3'] if option != '--tune' else arguments[:-1]
        with pytest.raises(UserError, match=f'{option}: the results file has runs that choose settings with '):
            start(trainings, tmp_path, 'uw', *more, option, values)
        assert not trainings.started


def test_single_task_models_are_tuned_too(trainings, tmp_path):
    trainings.best = {'gd': 2e-3, 'single': 1e-3}
    arguments = ['--tune', 'optimizer.lr=1e-3,2e-3', '--tune', 'optimizer.weight_decay=0,1e-4', '--tune-seeds', '0,1']
    assert start(trainings, tmp_path, 'gd', *arguments, '--no-shared') == 0
    tuned = [name for name in trainings.started if name.startswith('single/depth/') and '_held_out/' in name]
    assert len(tuned) == 2 * 2 * 2
    finals = [name for name in trainings.started if '_held_out/' not in name]
    assert 'single/depth/optimizer.lr_0.001__optimizer.weight_decay_0/seed_0' in finals
    assert len(finals) == 1 + len(METRICS)


def test_equal_compute_by_length(trainings, tmp_path):
    methods = 'gd,stgu,long=gd[compute=@stgu],twice=gd[compute=2*@stgu],clock=gd[time=@stgu],half=uw[compute=0.5]'
    assert start(trainings, tmp_path, methods, '--no-single-task', '--cfg-options', 'train_cfg.max_iters=80') == 0
    runs = runs_in(tmp_path)
    amount = (80 * 2.5 + 2 + 2 * 80 * 2.5) / 3 / 80
    assert runs['long', 0, None]['options'] == {'compute': pytest.approx(amount, abs=1e-4)}
    lengths = {name: run['curve'][-1]['iter'] for (name, _, _), run in runs.items()}
    assert lengths == dict(gd=80, stgu=80, long=round(80 * amount), twice=round(160 * amount), clock=100, half=40)
    assert runs['clock', 0, None]['options'] == {'time': 1.25}


@pytest.mark.parametrize(
    ('methods', 'message'),
    [
        ('gd[compute=0]', 'compute of .* must be @NAME or 2.@NAME, or a number above 0, but is 0'),
        ('gd[time=3]', 'time of .* must be @NAME or 2.@NAME, but is 3'),
        ('gd,stgu,a=gd[compute=@stgu,time=@stgu]', 'two lengths'),
        ('stgu,gd[time=@stgu]', 'needs gd among the methods'),
        ('gd,stgu[compute=@gd,warmup_iters=3]', r'needs stgu\[warmup_iters=3\] among the methods'),
    ],
)
def test_lengths_that_nothing_can_be_trained_to_are_refused(methods, message, trainings, tmp_path):
    def attempt():
        parse_variants(methods)  # as an argument it would end the program
        start(trainings, tmp_path, methods, '--no-single-task')

    with pytest.raises(ValueError, match=message):
        attempt()
    assert trainings.started == []


def test_seconds_of_two_machines_are_not_divided(trainings, tmp_path):
    assert start(trainings, tmp_path, 'gd,stgu', '--no-single-task') == 0
    path = tmp_path / 'runs' / 'results.json'
    content = json.loads(path.read_text())
    content['runs'][0]['environment']['hardware'] = dict(cpu='another')
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'time of clock cannot be settled, .* different machines'):
        start(trainings, tmp_path, 'gd,stgu,clock=gd[time=@stgu]', '--no-single-task')


def test_several_configs_make_one_report(trainings, tmp_path):
    trainings.root = tmp_path / 'runs'
    other = tmp_path / 'other.py'
    other.write_text(f"_base_ = ['{ROOMS}']\n")
    configs = [ROOMS, str(other)]
    arguments = ['--methods', 'gd,uw', '--no-single-task', '--seeds', '0,1', '--work-dir', str(trainings.root)]
    assert compare.main([*configs, *arguments, *TINY]) == 0
    first = Path(ROOMS).stem
    assert sorted(trainings.started[-8:]) == sorted(
        f'{stem}/{name}/seed_{seed}' for stem in (first, 'other') for name in ('gd', 'uw') for seed in (0, 1)
    )
    text = (trainings.root / 'report' / 'report.md').read_text()
    assert '## All settings' in text
    assert '## other: Results' in text
    for wrong in ([*configs, *arguments, '--results', str(tmp_path / 'a.json')], [ROOMS, ROOMS, *arguments]):
        with pytest.raises(SystemExit) as stop:
            compare.main(wrong)
        assert stop.value.code == 2


def test_a_schedule_is_stretched_as_a_whole():
    schedulers = [
        dict(type='LinearLR', start_factor=0.1, begin=0, end=50),
        dict(type='mmengine.optim.scheduler.lr_scheduler.CosineAnnealingLR', T_max=150, begin=50, end=200),
        dict(type='MultiStepLR', milestones=[100, 150]),
        dict(type='StepLR', step_size=30),
        dict(type='ExponentialLR', gamma=0.99, end=10**9),
    ]
    train_cfg = dict(max_iters=200, val_interval=50, dynamic_intervals=[(100, 10)])
    cfg = Config(dict(train_cfg=train_cfg, param_scheduler=schedulers))
    stretch(cfg, 2.5)
    assert cfg.train_cfg == dict(max_iters=500, val_interval=125, dynamic_intervals=[(250, 25)])
    linear, cosine, multi, step, exponential = cfg.param_scheduler
    assert (linear.begin, linear.end, linear.start_factor) == (0, 125, 0.1)
    assert (cosine.T_max, cosine.begin, cosine.end) == (375, 125, 500)
    assert (multi.milestones, step.step_size, exponential.end) == ([250, 375], 75, 10**9)
    assert exponential.gamma ** (200 * 2.5) == pytest.approx(0.99**200)
    with pytest.raises(ValueError, match=r'param_scheduler\[0\] has the type Own'):
        stretch(Config(dict(train_cfg=dict(max_iters=2), param_scheduler=[dict(type='Own', end=3)])), 2)


@pytest.mark.parametrize('text', ['optimizer.lr', 'optimizer.lr=1e-3', 'optimizer.lr=1e-3,0.001', '=1,2', 'a..b=1,2'])
def test_grids_of_another_form_are_refused(text):
    with pytest.raises(ValueError, match='two values or more'):
        parse_grid(text)


def test_grids_of_values_that_cannot_be_used_are_refused_before_training(trainings, tmp_path):
    for grid, message in (
        ('optimizer.lr=1e-3,fast', 'methods: gd at optimizer.lr="fast": .*optimizer.lr must be'),
        ('warmup_iters=1,2', 'methods: gd at warmup_iters=1'),
    ):
        with pytest.raises(ValueError, match=message):
            start(trainings, tmp_path, 'gd', '--tune', grid)
    one = ['--cfg-options', 'train_dataloader.dataset.num_images=1']
    with pytest.raises(ValueError, match='--tune-on: RoomsDataset has 1 samples'):
        start(trainings, tmp_path, 'gd', '--tune', 'optimizer.lr=1,2', *one)
    assert trainings.started == []


def test_no_other_run_has_a_say_in_a_choice():
    """Each task counts by its distance from its best, whatever a run that came to nothing did."""
    tuning = Tuning({'lr': [1, 2, 3]}, 0.1, [0, 1], None)
    tasks = dict(a=dict(metric='a', higher_is_better=True), b=dict(metric='b', higher_is_better=False))
    values = {1: [(10, 1.0), (30, 1.0)], 2: [(19, 0.9), (21, 0.9)], 3: [(1, 1e6), (1, 1e6)]}
    records = {
        Key('gd', seed, None, f'lr={rate}', True): dict(curve=[dict(metrics=dict(a=a, b=b))])
        for rate, runs in values.items()
        for seed, (a, b) in enumerate(runs)
    }
    choice = choose(records, 'gd', None, tuning, tasks)
    assert (choice.at, choice.border) == ('lr=2', ())
    assert choice.scores['lr=2'] == 0
    assert choice.scores['lr=1'] == pytest.approx(-100 * (1.0 / 0.9 - 1) / 2)
    for broken in (None, float('nan')):
        records['gd', 1, None, 'lr=2', True]['curve'][-1]['metrics']['b'] = broken
        assert choose(records, 'gd', None, tuning, tasks)[::2] == ('lr=1', ('lr',))
    assert choose({}, 'gd', None, tuning, tasks).at == ''


def test_files_with_tuned_runs_are_none_of_former_programs(trainings, tmp_path):
    assert start(trainings, tmp_path, 'gd', '--no-single-task', '--tune', 'optimizer.lr=1,2') == 0
    assert json.loads((tmp_path / 'runs' / 'results.json').read_text())['version'] == 2
    assert len(RecordStore(tmp_path / 'runs' / 'results.json', None).records) == 3
