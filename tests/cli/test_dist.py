"""``tools/dist_train.sh`` and ``tools/dist_test.sh`` on the CPU, as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from tests.support.tiny import ROOMS, ROOT, options, run_tool
from tests.support.two_ranks import run_ranks


def run_script(name, *args, cwd, **env):
    environment = {**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **env}
    command = ['bash', str(ROOT / 'tools' / name), *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_two_processes_train_and_evaluate_like_one(tmp_path):
    """The rank check compares the weights of both ranks after every iteration and stops at a difference of one bit."""
    small = options(4, 'custom_hooks.3.interval=1')
    done = run_script('dist_train.sh', ROOMS, 2, '--work-dir', tmp_path / 'run', *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
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
    python = tmp_path / 'python'
    python.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    told = []
    for name, arguments in (('dist_train.sh', ['c.py']), ('dist_test.sh', ['c.py', 'c.pth'])):
        words = run_script(name, *arguments, 3, '--seed', 'a b', cwd=tmp_path, PYTHON=str(python)).stdout.splitlines()
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
