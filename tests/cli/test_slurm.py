"""``tools/slurm_*.sh`` with an srun of the test, which notes its command line."""

import os
import shutil
import subprocess

import pytest

from mtl_plugins.cli.parsers import test as testing
from mtl_plugins.cli.parsers import train
from tests.support.tiny import ROOT

SCRIPTS = sorted((ROOT / 'tools').glob('*.sh'))


@pytest.fixture
def run(tmp_path):
    """Run a script; returns the finished process and the arguments that srun got."""
    srun = tmp_path / 'bin' / 'srun'
    srun.parent.mkdir()
    srun.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@" > "$SRUN_LOG"\nexit "${SRUN_EXIT:-0}"\n')
    srun.chmod(0o755)

    def start(name, *args, **settings):
        log = tmp_path / 'srun.txt'
        environment = {
            **os.environ,
            'PATH': f'{srun.parent}:{os.environ["PATH"]}',
            'SRUN_LOG': str(log),
            'PYTHON': 'python',
            **settings,
        }
        command = ['bash', str(ROOT / 'tools' / name), *args]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
        return done, log.read_text().splitlines() if log.exists() else None

    return start


def command_after(arguments, script):
    """The options of srun, and the arguments of the tool that it starts."""
    place = next(index for index, argument in enumerate(arguments) if argument.endswith(f'/{script}'))
    assert arguments[place - 2 : place] == ['python', '-u']
    return arguments[: place - 2], arguments[place + 1 :]


def test_training(run):
    more = ('--resume', '--cfg-options', 'model.x=[1, 2]')
    done, arguments = run('slurm_train.sh', 'gpu', 'a job', 'c.py', *more, GPUS='16', SRUN_ARGS='--time=1:00:00 -A me')
    assert done.returncode == 0, done.stderr
    options, rest = command_after(arguments, 'train.py')
    assert {'--partition=gpu', '--job-name=a job', '--ntasks=16', '--ntasks-per-node=8', '--gres=gpu:8'} <= set(options)
    assert {'--cpus-per-task=5', '--time=1:00:00', '-A', 'me'} <= set(options)
    parsed = train.build_parser().parse_args(rest)
    assert (parsed.config, parsed.launcher, parsed.resume, parsed.cfg_options) == (
        'c.py', 'slurm', True, {'model.x': [1, 2]},
    )  # fmt: skip


def test_testing_on_a_part_of_a_machine(run):
    done, arguments = run(
        'slurm_test.sh', 'gpu', 'job', 'c.py', 'w.pth', '--out', 'm.json', GPUS='2', CPUS_PER_TASK='3'
    )
    assert done.returncode == 0, done.stderr
    options, rest = command_after(arguments, 'test.py')
    assert {'--ntasks=2', '--ntasks-per-node=2', '--gres=gpu:2', '--cpus-per-task=3'} <= set(options)
    parsed = testing.build_parser().parse_args(rest)
    assert (parsed.config, parsed.checkpoint, parsed.launcher, str(parsed.out)) == ('c.py', 'w.pth', 'slurm', 'm.json')


@pytest.mark.parametrize(('ended', 'code', 'requeued'), [('75', 0, 'requeue 42'), ('0', 0, None), ('1', 1, None)])
def test_a_job_goes_back_into_the_queue_only_after_a_saved_checkpoint(run, tmp_path, ended, code, requeued):
    scontrol = tmp_path / 'bin' / 'scontrol'
    scontrol.write_text('#!/usr/bin/env bash\necho "$@" > "$SRUN_LOG.scontrol"\n')
    scontrol.chmod(0o755)
    done, arguments = run('slurm_batch.sh', 'c.py', '--method', 'gd', SRUN_EXIT=ended, SLURM_JOB_ID='42')
    assert done.returncode == code
    assert arguments[:5] == ['python', '-u', '-m', 'mtl_plugins', 'train']
    parsed = train.build_parser().parse_args(arguments[5:])
    assert (parsed.config, parsed.method, parsed.launcher, parsed.resume) == ('c.py', 'gd', 'slurm', True)
    asked = tmp_path / 'srun.txt.scontrol'
    assert (asked.read_text().strip() if asked.exists() else None) == requeued


def test_the_exit_code_of_a_stopped_training_reaches_the_batch_script(run):
    done, _ = run('slurm_train.sh', 'gpu', 'job', 'c.py', SRUN_EXIT='75')
    assert done.returncode == 75


@pytest.mark.parametrize(
    ('name', 'arguments'), [('slurm_train.sh', 'PARTITION JOB_NAME CONFIG'), ('slurm_test.sh', 'CONFIG CHECKPOINT')]
)
def test_missing_arguments_are_explained(run, name, arguments):
    done, noted = run(name, 'gpu', 'job')
    assert (done.returncode, noted) == (2, None)
    assert f'bash tools/{name} ' in done.stderr
    assert arguments in done.stderr
    assert 'SRUN_ARGS' in done.stderr


@pytest.mark.skipif(shutil.which('shellcheck') is None, reason='shellcheck is not installed')
@pytest.mark.parametrize('script', [*SCRIPTS, ROOT / '.ci' / 'run'], ids=lambda path: path.name)
def test_shellcheck(script):
    done = subprocess.run(['shellcheck', str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
