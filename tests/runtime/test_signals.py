"""SIGTERM, SIGUSR1 and SIGHUP before, beside and after the training loop, and a command that dies."""

import os
import signal
from importlib import import_module
from pathlib import Path

import pytest

from mtl_plugins import __main__ as command_line
from mtl_plugins.datasets.cache import SampleCache
from mtl_plugins.runtime import signals
from mtl_plugins.runtime.hooks import PreemptionHook, TrainingPreempted
from mtl_plugins.runtime.hooks import preemption as preemption_module
from mtl_plugins.utils.parallel import ignore_signals
from tests.support.tiny import ROOMS, options

from .safety import build_runner, names, release

NUMBERS = pytest.mark.parametrize('number', signals.SIGNALS, ids=lambda number: number.name)


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.signal(number, signal.SIG_DFL) for number in signals.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@NUMBERS
@pytest.mark.parametrize('command', ['train', 'compare', 'baselines'])
def test_a_signal_while_the_config_is_read_gives_75(number, command, monkeypatch, capfd):
    module = import_module(f'mtl_plugins.cli.{command}')
    monkeypatch.setattr(module, 'load_config', lambda *_args, **_options: signal.raise_signal(number))
    arguments = ['--methods', 'gd'] if command == 'compare' else []
    with pytest.raises(SystemExit) as stop:
        command_line.run(command, [ROOMS, *arguments])
    assert stop.value.code == 75
    assert f'{number.name}: stopped with exit code 75' in capfd.readouterr().err


def test_a_signal_while_the_cache_is_rendered_gives_75(tmp_path, monkeypatch):
    def render(self, index, sample):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(SampleCache, 'write', render)
    monkeypatch.setenv('MTL_PLUGINS_CACHE', str(tmp_path / 'cache'))
    with pytest.raises(SystemExit) as stop:
        command_line.run('train', [ROOMS, '--work-dir', str(tmp_path / 'run'), *options()])
    assert stop.value.code == 75
    assert not (tmp_path / 'run' / 'run.lock').exists()


def test_other_commands_end_by_the_signal(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text('x = 1\n')
    command_line.run('config', [str(config)])
    assert all(signal.getsignal(number) == signal.SIG_DFL for number in signals.SIGNALS)


def test_training_takes_over_and_gives_back(tmp_path):
    signals.leave_on_signals()
    runner = build_runner(tmp_path, [PreemptionHook(signals=('SIGUSR1',))], iters=2)
    seen = []

    class Look(preemption_module.Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            seen.append((signal.getsignal(signal.SIGTERM), callable(signal.getsignal(signal.SIGUSR1))))

    runner.register_hook(Look())
    runner.train()
    release(runner)
    assert set(seen) == {(signal.SIG_DFL, True)}  # a signal that the hook is not to take is left alone
    assert signals.leaving() == signals.SIGNALS


@pytest.mark.parametrize('point', ['before_train_iter', 'after_val_iter'])
def test_a_training_stops_when_its_command_has_died(point, tmp_path, monkeypatch):
    gone = []

    class Die(preemption_module.Hook):
        pass

    def die(runner, *_args, **_kwargs):
        if runner.iter == 4:
            gone.append(True)

    setattr(Die, point, staticmethod(die))
    monkeypatch.setattr(preemption_module, 'parent_is_gone', lambda: bool(gone))
    saving = dict(interval=100 if point == 'before_train_iter' else 4, by_epoch=False)
    runner = build_runner(tmp_path, [PreemptionHook(), Die()], val_interval=4, checkpoint=saving)
    with pytest.raises(TrainingPreempted) as stop:
        runner.train()
    release(runner)
    assert (stop.value.code, stop.value.signal_name) == (75, 'SIGHUP')
    assert ('iter_5.pth' if point == 'before_train_iter' else 'iter_4.pth') in names(tmp_path)


def test_a_training_notices_by_its_standard_input(monkeypatch):
    reading, writing = os.pipe()
    former = os.dup(0)
    os.dup2(reading, 0)
    try:
        os.close(reading)
        assert not signals.parent_is_gone()
        monkeypatch.setenv(signals.PARENT, '1')
        assert not signals.parent_is_gone()
        os.close(writing)
        assert signals.parent_is_gone()
    finally:
        os.dup2(former, 0)
        os.close(former)


@pytest.mark.parametrize(
    ('words', 'expected'),
    [
        ('python -m mtl_plugins train x.py', True),
        ('python -u -m mtl_plugins compare', True),
        ('python tools/train.py x.py', True),
        (f'python {Path(__file__).parents[2]}/tools/analysis/compare_methods.py', True),
        ('python /bin/mtl-plugins demo', True),
        ('python -m mtl_plugins infer x.py', False),
        ('python -m mtl_plugins', False),
        ('python -m pytest tests/cli/test_train.py', False),
        ('python mine/train.py', False),
        ('python /bin/mtl-plugins config train', False),
        ('python -c 1', False),
        ('python', False),
    ],
)
def test_which_programs_are_sent_again(words, expected):
    assert signals.may_be_sent_again(words.split()) is expected


def test_helpers_leave_signals_to_the_first_process():
    signals.leave_on_signals()
    child = os.fork()
    if child == 0:
        ignore_signals()
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGTERM)  # a forked helper does not raise in the middle of something
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
