"""Trainings that share the imports: what one of them does to itself concerns no other, nor what comes out."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from mtl_plugins.cli import compare
from mtl_plugins.config import load_config
from mtl_plugins.experiments.runs import TrainingRun
from mtl_plugins.experiments.runs.executor import terminating_like_ctrl_c, uninterrupted
from mtl_plugins.experiments.runs.forked import can_fork
from tests.support.tiny import ROOMS, ROOT, options, shrink

pytestmark = pytest.mark.skipif(not can_fork(), reason='this system does not fork what has loaded torch')


def planned(folder, iterations=2, **changes):
    """A run of a tiny config in a folder of its own."""
    cfg = shrink(load_config(ROOMS, changes), iterations)
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook.type != 'mtl_plugins.PredictionPanelHook']
    file = folder / 'config' / 'tiny.py'
    file.parent.mkdir(parents=True)
    cfg.dump(str(file))
    run = TrainingRun(folder.name, folder, cfg, [str(file)])
    run.prepare()
    return run


def ended(run):
    deadline = time.monotonic() + 240
    while not run.poll():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return run.error


def weights(folder):
    return torch.load(folder / 'iter_2.pth', weights_only=True)['state_dict']


def test_a_crash_loses_one_run(tmp_path):
    good, broken, killed = (
        planned(tmp_path / 'good'),
        planned(tmp_path / 'broken', **{'optim_wrapper.optimizer.type': 'Adma'}),
        planned(tmp_path / 'killed', 10**6),
    )
    environment = {**os.environ, 'MARK': 'of the tool'}
    for run in (good, broken, killed):
        run.start(environment)
    while not (killed.log.exists() and killed.log.stat().st_size) and not killed.poll():
        time.sleep(0.05)
    os.kill(killed._process.pid, signal.SIGKILL)
    assert 'it was killed by SIGKILL' in ended(killed)
    assert "there is no optimizer 'Adma'" in ended(broken)
    assert ended(good) == ''
    assert weights(tmp_path / 'good')


@pytest.mark.slow
def test_what_comes_out_is_that_of_a_process_of_its_own(tmp_path):
    runs = [planned(tmp_path / name) for name in ('forked', 'forked_again', 'alone')]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    for run in runs[:2]:
        run.start(environment)
        assert ended(run) == ''
    alone = runs[2]
    subprocess.run([sys.executable, *alone.command[1:]], check=True, env=environment, capture_output=True, timeout=240)
    for name in ('forked', 'forked_again'):
        for key, value in weights(tmp_path / 'alone').items():
            assert torch.equal(weights(tmp_path / name)[key], value), key


@pytest.mark.slow
def test_a_training_outlives_the_process_that_all_are_children_of(tmp_path):
    run = planned(tmp_path / 'one', 400)
    run.start(dict(os.environ))
    while not run.iteration() and not run.poll():
        time.sleep(0.05)
    status = Path(f'/proc/{run._process.pid}/status').read_text()
    server = int(status.split('PPid:')[1].split()[0])
    os.kill(server, signal.SIGKILL)
    assert ended(run) == ''
    another = planned(tmp_path / 'two')
    another.start(dict(os.environ))
    assert ended(another) == ''


def small_comparison(folder):
    """Arguments of a comparison of two methods with a rate of its own each: six trainings of two iterations."""
    arguments = [ROOMS, '--methods', 'gd,stgu', '--tune', 'optimizer.lr=1e-3,2e-3', '--no-single-task', '--no-shared']
    return [*arguments, '--work-dir', str(folder), *options(2, 'train_dataloader.dataset.num_images=8')]


def lines(folder):
    return [line for line in (folder / 'results.json').read_text().splitlines() if line.startswith('  {"variant"')]


def wait_for_the_first(folder):
    while not (folder / 'results.json').exists():
        time.sleep(0.02)
    return lines(folder)


def check_both(folder, before):
    after = lines(folder)
    assert {line.rstrip(',') for line in before} < {line.rstrip(',') for line in after}
    runs = json.loads((folder / 'results.json').read_text())['runs']
    assert [run['tuning'] for run in runs].count(True) == 4
    assert len(runs) == 6
    # Methods began alike, and each with other samples where a part was held out.
    assert len({run['start']['weights'] for run in runs}) == 1
    for tuning in (True, False):
        assert len({json.dumps(run['start']['samples']) for run in runs if run['tuning'] is tuning}) == 1
    assert 'checked in 2 runs' in (folder / 'report' / 'report.md').read_text()


def test_a_small_comparison_stopped_and_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr('mtl_plugins.experiments.report.writing.pictures', lambda comparison: {})
    arguments, before = small_comparison(tmp_path), []

    def stop():
        before.extend(wait_for_the_first(tmp_path))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(SystemExit) as stop:
        compare.main(arguments)
    assert stop.value.code == 75
    thread.join()
    assert compare.main(arguments) == 0
    check_both(tmp_path, before)


def test_a_start_is_finished_before_a_signal_ends_the_rest():
    done = []

    def start():
        with terminating_like_ctrl_c(), uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            done.append('the start')

    with pytest.raises(KeyboardInterrupt):
        start()
    assert done == ['the start']


@pytest.mark.slow
def test_a_small_comparison_killed_and_resumed(tmp_path):
    command = [sys.executable, '-m', 'mtl_plugins', 'compare', *small_comparison(tmp_path)]
    with subprocess.Popen(command, env=dict(os.environ, PYTHONPATH=str(ROOT)), cwd=tmp_path) as tool:
        before = wait_for_the_first(tmp_path)
        tool.kill()
    again = subprocess.run(command, env=dict(os.environ, PYTHONPATH=str(ROOT)), cwd=tmp_path, timeout=500)
    assert again.returncode == 0
    check_both(tmp_path, before)
