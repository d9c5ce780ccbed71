"""Trainings that a command starts: what their logs say, and folders in which another process still works."""

import fcntl
import json
import os
import sys

import pytest
from mmengine.config import Config

from mtl_plugins.experiments.runs import TrainingRun
from mtl_plugins.experiments.runs.log_errors import error_line
from mtl_plugins.runtime.work_folder import LOCK_NAME

TRACE = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n'
CHAIN = 'During handling of the above exception, another exception occurred:'
SPAWN = (
    f'{TRACE}torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n===\ntrain.py FAILED\n---\n'
    'Root Cause (first observed failure):\n  exitcode  : 1 (pid: 17)\n===\n'
)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('', 'no output'),
        ('one\ntwo\n\n', 'two'),
        ('x\ntrain: error: it is full\n(MTL_PLUGINS_TRACEBACK=1 shows where this came from)\n', 'it is full'),
        ('usage: train\ntrain: error: unrecognized arguments: --x\n', 'unrecognized arguments: --x'),
        (f'{TRACE}ValueError: bad\nbye\n', 'ValueError: bad'),
        (f'{TRACE}KeyError: 1\n\n{CHAIN}\n\n{TRACE}ValueError: bad\nend', 'ValueError: bad'),
        (f'--- Logging error ---\n{TRACE}OSError: log\n{TRACE}ValueError: bad\n', 'ValueError: bad'),
        (f'Exception ignored in: <f>\n{TRACE}OSError: late\n', 'OSError: late'),
        (f'{TRACE}ValueError: bad\n{SPAWN}', 'ValueError: bad'),
        (''.join(f'[rank1]: {line}\n' for line in f'{TRACE}ValueError: bad'.splitlines()) + SPAWN, 'ValueError: bad'),
        (f'train: error: no space\n{SPAWN}', 'no space'),
    ],
)  # fmt: skip
def test_the_error_of_a_log(text, expected):
    assert error_line(text) == expected


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose command is a Python program of the test."""
    run = TrainingRun('one', tmp_path, Config(dict(train_cfg=dict(max_iters=2))), [], [sys.executable])

    def program(text):
        monkeypatch.setattr(TrainingRun, 'command', property(lambda self: [sys.executable, '-c', text]))
        return run

    return program


def ended(run):
    run._process.wait()
    assert run.poll()
    return run.error


def test_only_what_this_start_printed_counts(run, tmp_path):
    (tmp_path / 'train.log').write_text('train: error: of the last start\n')
    one = run('raise ValueError("of now")')
    one.start({})
    assert ended(one).startswith('exit code 1: ValueError: of now (all output: ')


@pytest.mark.parametrize(
    ('program', 'expected'),
    [
        ('print("so far"); raise SystemExit(75)', 'it was stopped by a signal; the same command goes on with it'),
        ('import os; print("so far", flush=True); os.kill(os.getpid(), 9)', 'killed by SIGKILL after "so far"'),
    ],
)
def test_signals_are_named(program, expected, run):
    one = run(program)
    one.start({})
    assert expected in ended(one)


def test_the_standard_input_ends_with_the_command(run):
    one = run('import sys; print(repr(sys.stdin.read())); raise SystemExit(3)')
    one.start({})
    assert one._process.poll() is None
    os.close(one._leash)  # as when this process dies
    one._leash = -1
    assert ended(one).startswith("exit code 3: ''")


def test_a_folder_with_another_process_is_waited_for(run, tmp_path):
    one = run('print("trained"); raise SystemExit(4)')
    with open(tmp_path / LOCK_NAME, 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump(dict(pid=4711, host='here', since='now', command='train'), file)
        file.flush()
        one.start({})
        assert one.waits_for().startswith('process 4711')
        assert not one.poll()
        assert not (tmp_path / 'train.log').exists()
    assert not one.poll()  # starts now
    assert ended(one).startswith('exit code 4: trained')


def test_what_the_other_process_did_of_a_training_by_epochs_is_gone_on_with(run, tmp_path):
    """Its metrics do not tell whether they are the last ones."""
    one = run('print("goes on"); raise SystemExit(4)')
    one.max_iters = None
    with open(tmp_path / LOCK_NAME, 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        one.start({})
        assert not one.poll()
    (tmp_path / 'metrics.json').write_text(json.dumps([dict(iter=2, metrics=dict(a=1))]))
    assert not one.poll()
    assert ended(one).startswith('exit code 4: goes on')


def test_what_the_other_process_finished_is_taken_over(run, tmp_path):
    one = run('raise SystemExit(4)')
    with open(tmp_path / LOCK_NAME, 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        one.start({})
        assert not one.poll()
    (tmp_path / 'metrics.json').write_text(json.dumps([dict(iter=2, metrics=dict(a=1))]))
    assert one.poll()
    assert one.error == ''
