"""``tools/dist_train.sh`` and ``tools/dist_test.sh`` on the CPU, as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from torch.distributed.run import get_args_parser

from tests.support.tiny import ROOMS, ROOT, options, run_tool
from tests.support.two_ranks import run_ranks


def run_script(name, *args, cwd, **env):
    environment = {**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **env}
    command = ['bash', str(ROOT / 'tools' / name), *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False)


def words_for_python(name, *args, cwd):
    """What a script calls python with."""
    python = cwd / 'python'
    python.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    return run_script(name, *args, cwd=cwd, PYTHON=str(python)).stdout.splitlines()


@pytest.mark.parametrize('torchrun', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_processes_train_and_evaluate_like_one(tmp_path, torchrun):
    """The rank check compares the weights of both ranks after every iteration and stops at a difference of one bit."""
    small = options(4, 'custom_hooks.3.interval=1')
    asked = ['dist_train.sh', ROOMS, 2, '--work-dir', tmp_path / 'run', *small]
    if torchrun:
        done = run_script(*asked, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
    else:
        module, name, *words = words_for_python(*asked, cwd=tmp_path)
        assert (module, name) == ('-m', 'torch.distributed.run')
        told = get_args_parser().parse_args(words)
        assert (told.nnodes, told.nproc_per_node) == ('1', '2')
        run_ranks(told.training_script, *told.training_script_args)
    used = Config.fromfile(tmp_path / 'run' / Path(ROOMS).name)
    assert used.custom_hooks[3] == dict(type='mtl_plugins.RankSyncCheckHook', interval=1)
    stamp = next((tmp_path / 'run').glob('*/environment.json'))
    assert json.loads(stamp.read_text())['world_size'] == 2

    small = options(4)
    checkpoint = tmp_path / 'run' / 'iter_4.pth'
    common = ['--work-dir', tmp_path / 'test']
    words = [ROOMS, checkpoint, '--launcher', 'pytorch', *common, '--out', tmp_path / 'two.json', *small]
    run_ranks(ROOT / 'tools/test.py', *words)
    done = run_tool('test.py', ROOMS, checkpoint, *common, '--out', tmp_path / 'one.json', *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (json.loads((tmp_path / f'{name}.json').read_text()) for name in ('one', 'two'))
    assert one == pytest.approx(two, rel=1e-6, nan_ok=True)


def test_testing_is_started_as_training_is(tmp_path):
    told = []
    for name, arguments in (('dist_train.sh', ['c.py']), ('dist_test.sh', ['c.py', 'c.pth'])):
        words = words_for_python(name, *arguments, 3, '--seed', 'a b', cwd=tmp_path)
        place = words.index(str(ROOT / 'tools' / name.replace('dist_', '').replace('.sh', '.py')))
        assert words[place + 1 :] == [*arguments, '--launcher', 'pytorch', '--seed', 'a b']
        told.append([word for word in words[:place] if not word.startswith('--master-port=')])
    assert told[0] == told[1]
    assert '--nproc-per-node=3' in told[1]


def test_missing_arguments_are_explained(tmp_path):
    for name in ('dist_train.sh', 'dist_test.sh'):
        done = run_script(name, ROOMS, cwd=tmp_path)
        assert done.returncode == 2
        assert f'bash tools/{name} CONFIG' in done.stderr
