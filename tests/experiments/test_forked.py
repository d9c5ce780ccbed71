"""Trainings that share the imports: what one of them does to itself concerns no other, nor what comes out."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mtl_plugins.config import load_config
from mtl_plugins.experiments.runs import TrainingRun
from mtl_plugins.experiments.runs.forked import can_fork
from tests.support.tiny import ROOMS, shrink

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
