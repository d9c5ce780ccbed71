import json
import signal
from types import SimpleNamespace

import pytest

from mtl_plugins.cli import baselines
from mtl_plugins.evaluation import MultiTaskEvaluator
from mtl_plugins.evaluation.baselines import load_baselines
from mtl_plugins.experiments.runs import executor, first_difference, training_run
from tests.support.tiny import ROOMS, options, run_tool

# With the same name each time, since it belongs to the settings that a second start is compared with.
TINY = [*options(), 'experiment_name=baseline']


@pytest.fixture
def trainings(monkeypatch):
    """Replaces the processes by fakes; maps (task, seed) to (exit code, metrics, iteration) and lists the starts."""

    class Fake:
        outcomes = {}
        started = []
        alive = 0
        most_alive = 0
        terminated = 0
        endless = False

        def __init__(self, command, stdout, env, start_new_session, **kwargs):
            folder = training_run.Path(command[command.index('--work-dir') + 1])
            task, seed = folder.parent.name, int(folder.name.removeprefix('seed_'))
            assert command[1:4] == ['-m', 'mtl_plugins', 'train']
            assert '--resume' in command
            assert start_new_session
            Fake.started.append((task, seed))
            Fake.alive += 1
            Fake.most_alive = max(Fake.most_alive, Fake.alive)
            code, metrics, iteration = Fake.outcomes.get((task, seed), (0, {}, 2))
            metrics = {f'{task}/RMSE': 2.0 + seed, f'{task}/mean': 30.0, **metrics}
            (folder / 'metrics.json').write_text(json.dumps([dict(iter=iteration, metrics=metrics)]))
            stdout.write(b'first line\nRuntimeError: no luck\n\n' if code else b'fine\n')
            self.code, self.polled = code, 0

        def poll(self):
            self.polled += 1
            if self.polled < 2 or Fake.endless:
                return None
            Fake.alive -= self.polled == 2
            return self.code

        def terminate(self):
            Fake.terminated += 1

        def wait(self):
            return 75

    Fake.outcomes, Fake.started = {}, []
    monkeypatch.setattr(training_run, 'can_fork', lambda: False)
    monkeypatch.setattr(training_run, 'subprocess', SimpleNamespace(Popen=Fake, STDOUT=None, DEVNULL=None))
    monkeypatch.setattr(executor, 'time', SimpleNamespace(sleep=lambda seconds: None))
    return Fake


def start(tmp_path, *arguments):
    folders = ['--work-dir', str(tmp_path / 'runs'), '--out', str(tmp_path / 'out.json')]
    return baselines.main([ROOMS, *folders, *map(str, arguments), *TINY])


def test_as_a_user_runs_it(tmp_path):
    arguments = [ROOMS, '--tasks', 'depth', '--out', 'base.json', *TINY]
    done = run_tool('analysis/single_task_baselines.py', *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    record = load_baselines(tmp_path / 'base.json')
    assert record['command'].startswith('python tools/analysis/single_task_baselines.py ')
    assert (record['seeds'], record['iterations']) == ([0], 2)
    assert {'torch', 'python', 'mtl_plugins'} <= set(record['versions'])
    run = tmp_path / 'work_dirs/baselines/stgu_vit-micro_8b-2k_rooms-96/depth/seed_0'
    (entry,) = json.loads((run / 'metrics.json').read_text())
    assert record['tasks']['depth']['value'] == entry['metrics']['depth/RMSE']
    assert {name.split('/')[0] for name in entry['metrics']} == {'depth'}
    assert "method 'gd' on 1 tasks" in (run / 'train.log').read_text()
    evaluator = MultiTaskEvaluator(tasks=['depth'], baselines=tmp_path / 'base.json', missing='raise')
    assert evaluator.baselines['depth']['higher_is_better'] is False


def test_mean_over_seeds_and_nothing_twice(trainings, tmp_path, capsys):
    assert start(tmp_path, '--tasks', 'depth,normals', '--seeds', '0,2', '--jobs', 2) == 0
    assert sorted(trainings.started) == [('depth', 0), ('depth', 2), ('normals', 0), ('normals', 2)]
    assert trainings.most_alive == 2
    record = load_baselines(tmp_path / 'out.json')
    assert record['tasks']['depth'] == dict(metric='depth/RMSE', value=3.0, higher_is_better=False, values=[2.0, 4.0])
    assert list(record['tasks']) == ['depth', 'normals']
    assert '[4/4]' in capsys.readouterr().out

    # One more seed: only that is trained.
    trainings.started.clear()
    assert start(tmp_path, '--tasks', 'depth', '--seeds', '0,2,7') == 0
    assert trainings.started == [('depth', 7)]
    assert load_baselines(tmp_path / 'out.json')['tasks']['depth']['value'] == 5.0


@pytest.mark.parametrize(
    ('outcome', 'message'),
    [
        ((1, {}, 2), 'exit code 1: RuntimeError: no luck (all output: '),
        ((0, {'depth/RMSE': None}, 2), 'depth/RMSE is None, which cannot be a baseline'),
        ((0, {}, 1), 'the last validation is missing in '),
    ],
)
def test_one_failure_does_not_stop_the_rest(outcome, message, trainings, tmp_path, capsys):
    trainings.outcomes['depth', 0] = outcome
    (tmp_path / 'out.json').write_text('of an earlier start')
    assert start(tmp_path, '--tasks', 'depth,normals') == 1
    assert trainings.started == [('depth', 0), ('normals', 0)]
    text = capsys.readouterr().out
    assert f'FAILED depth, seed 0: {message}' in text
    assert 'is not written' in text
    assert (tmp_path / 'out.json').read_text() == 'of an earlier start'

    trainings.outcomes.clear()
    trainings.started.clear()
    assert start(tmp_path, '--tasks', 'depth,normals') == 0
    assert trainings.started == [('depth', 0)]
    assert list(load_baselines(tmp_path / 'out.json')['tasks']) == ['depth', 'normals']


def test_an_interruption_stops_the_trainings_in_good_order(trainings, tmp_path, monkeypatch, capsys):
    trainings.endless = True
    killing = SimpleNamespace(sleep=lambda seconds: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(executor, 'time', killing)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        start(tmp_path, '--tasks', 'depth,normals', '--jobs', 2)
    assert stop.value.code == 75
    assert trainings.terminated == 2
    assert 'start the same command again' in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (tmp_path / 'out.json').exists()


def test_runs_with_other_settings_are_not_mixed(trainings, tmp_path):
    assert start(tmp_path, '--tasks', 'depth') == 0
    with pytest.raises(ValueError, match=r'other settings \(.*lr: 0\.0005 -> 0\.1\).*another --work-dir'):
        start(tmp_path, '--tasks', 'depth', '--cfg-options', 'optim_wrapper.optimizer.lr=0.1')
    defaults = ['optim_wrapper.optimizer.betas=(0.9,0.999)', 'optim_wrapper.clip_grad=None']
    assert start(tmp_path, '--tasks', 'depth', '--cfg-options', *defaults, 'train_dataloader.num_workers=2') == 0
    for changed in ('optim_wrapper.optimizer.betas=(0.8,0.999)', 'default_hooks.ema.type=EMAHook'):
        with pytest.raises(ValueError, match='other settings'):
            start(tmp_path, '--tasks', 'depth', '--cfg-options', changed)


def test_what_cannot_exist_yet_is_left_out(trainings, tmp_path):
    changes = ['val_evaluator.baselines=gone.json', 'default_hooks.checkpoint.save_best=delta_m']
    assert start(tmp_path, '--tasks', 'depth', '--cfg-options', *changes) == 0
    settings = json.loads((tmp_path / 'runs/depth/seed_0/settings.json').read_text())
    assert 'gone.json' not in json.dumps(settings)
    assert 'delta_m' not in json.dumps(settings)
    assert settings['train_dataloader']['dataset']['tasks'] == ['depth']
    assert settings['randomness']['seed'] == 0


@pytest.mark.parametrize(
    ('arguments', 'lines', 'error', 'message'),
    [
        (['--tasks', 'dpeth'], '', KeyError, "'dpeth': did you mean 'depth'"),
        ([], 'val_evaluator = None', ValueError, 'nothing to take baselines of'),
        ([], "model = dict(_delete_=True, type='EncoderDecoder')", ValueError, 'one head per task'),
    ],
)
def test_mistakes_are_named(arguments, lines, error, message, trainings, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(f'_base_ = {ROOMS!r}\n{lines}\n')
    with pytest.raises(error, match=message):
        baselines.main([str(config), '--work-dir', str(tmp_path), *arguments])
    assert not trainings.started


@pytest.mark.parametrize('arguments', [['--jobs', '0'], ['--seeds', 'a'], ['--tasks', ','], []])
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        baselines.main([*arguments, *([ROOMS] if arguments else [])])
    assert stop.value.code == 2


def test_default_folders(trainings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine.py').write_text(f'_base_ = {ROOMS!r}\n')
    assert baselines.main(['mine.py', '--tasks', 'depth', *TINY]) == 0
    record = load_baselines('mine.baselines.json')
    assert record['config'] == 'mine.py'
    assert (tmp_path / 'work_dirs/baselines/mine/depth/seed_0/result.json').is_file()


def test_the_first_difference():
    old = dict(a=1, b=[1, dict(c=2)])
    assert first_difference(old, json.loads(json.dumps(old))) == ''
    assert first_difference(old, dict(a=1, b=[1, dict(c=3)])) == 'b.1.c: 2 -> 3'
    assert first_difference(old, dict(a=1)) == 'b: [1, {"c": 2}] -> null'
