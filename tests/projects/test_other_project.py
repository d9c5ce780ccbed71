"""Training, resuming and loading of a project that knows us by ``custom_imports`` and ``optim_wrapper.type`` alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def life(tmp_path_factory):
    """What came of each step; in a process of its own, into which nothing of ours was loaded before."""
    folder = tmp_path_factory.mktemp('project')
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        [sys.executable, '-m', 'tests.projects.other_project', str(folder)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / 'outcomes.json').read_text())


def test_its_own_runs_go_on_beside_the_import(life):
    assert life['resumed beside the import'] == life['alone']
    assert life['loaders as before']


@pytest.mark.parametrize('runner', ['ours', 'flexible'])
def test_our_wrapper_trains_and_resumes_exactly(life, runner):
    assert life[runner]['iter'] == 4
    assert life[runner]['weights'] != life['alone']['weights']
    assert life[f'{runner} resumed'] == life[runner]


def test_both_runners_train_alike(life):
    assert life['flexible'] == life['ours']


def test_our_hook_applies_another_schedule_in_its_runner(life):
    resumed = life['our hook, longer']
    assert resumed['iter'] == 6
    assert resumed['rate'] == pytest.approx(0.01 * (0.5 + 0.5 * 6 / 8))
    (line,) = resumed['warnings']
    assert 'Resuming at iteration 2: max_iters 4 -> 6' in line
    assert '(LinearLR): total_iters 2 -> 8, end 3 -> 9' in line


def test_its_old_weights_are_loaded(life):
    assert life['from the old weights']['weights'] == life['alone']['weights']


def test_settings_that_its_runner_brings_back_are_named(life):
    settings, length = life['another rate']['warnings']
    assert 'optim_wrapper.optimizer.lr: 0.01 in the checkpoint, 0.5 now' in settings
    assert 'max_iters was 4 and is 6 now' in length


@pytest.mark.parametrize('config', ['ours', 'flexible'])
def test_schedules_that_its_runner_brings_back_are_named(life, config):
    (line,) = life[f'{config} replanned']['warnings']
    assert '(LinearLR): start_factor 0.5 -> 0.1' in line
    assert ('max_iters was 4 and is 6 now' in line) == (config == 'flexible')
    assert life[f'{config} replanned']['rate'] == life[config]['rate']
