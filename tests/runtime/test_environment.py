import json
import shlex
import socket
import subprocess
import sys

import torch

from mtl_plugins import __version__
from mtl_plugins.runtime.hooks.environment import EnvironmentStampHook, collect_environment, git_state

from .safety import build_runner, release


def _git(folder, *arguments):
    identity = ['-c', 'user.name=a', '-c', 'user.email=a@example.org', '-c', 'commit.gpgsign=false']
    subprocess.run(['git', *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_file_is_written_before_training(tmp_path):
    runner = build_runner(tmp_path, [EnvironmentStampHook()], iters=1)
    runner.train()
    release(runner)
    stamp = json.loads((tmp_path / runner.timestamp / 'environment.json').read_text())
    assert stamp['seed'] == 7
    assert stamp['mtl_plugins'] == __version__
    assert stamp['packages']['torch'].split('+')[0] == torch.__version__.split('+')[0]
    assert 'onedl-mmengine' in stamp['packages'] or 'mmengine' in stamp['packages']
    assert stamp['command'] == shlex.join(sys.orig_argv)
    assert stamp['world_size'] == 1
    assert stamp['torch_threads'] == torch.get_num_threads()
    assert stamp['hardware']['cores'] >= 1
    assert stamp['determinism']['deterministic_algorithms'] is False


def test_no_host_name():
    stamp = collect_environment(seed=1)
    assert socket.gethostname() not in json.dumps(dict(stamp, command='')).split('"')


def test_git_state(tmp_path, monkeypatch):
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path))
    repository = tmp_path / 'repository'
    repository.mkdir()
    assert git_state(repository) is None
    _git(repository, 'init')
    assert git_state(repository) is None  # no commit yet
    (repository / 'a').write_text('1')
    _git(repository, 'add', 'a')
    _git(repository, 'commit', '-m', 'x')
    clean = git_state(repository)
    assert len(clean['commit']) == 40
    assert clean['dirty'] is False
    (repository / 'new').write_text('not tracked')
    assert git_state(repository) == clean
    (repository / 'a').write_text('2')
    assert git_state(repository) == dict(clean, dirty=True)


def test_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', '')
    assert git_state(tmp_path) is None
