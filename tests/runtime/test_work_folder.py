"""The lock on a folder, and folders that cannot be written to."""

import errno
import fcntl
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from mtl_plugins.cli import baselines, compare, demo, reproduce, train
from mtl_plugins.errors import UserError
from mtl_plugins.runtime import work_folder
from mtl_plugins.runtime.work_folder import LOCK_NAME, FolderInUseError, UnwritableFolderError, claim, holder, naming

from .safety import build_runner, release

ROOMS = str(Path(__file__).parents[2] / 'configs/rooms/stgu_vit-micro_8b-2k_rooms-96.py')


@pytest.fixture
def taken(tmp_path, monkeypatch):
    """A folder in which another process works (a second descriptor counts as one)."""
    monkeypatch.setattr(work_folder, '_PATIENCE', 1)
    with open(tmp_path / LOCK_NAME, 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump(dict(pid=4711, host='elsewhere', since='yesterday', command='train x.py'), file)
        file.flush()
        yield tmp_path


NAMED = r'in use by process 4711 on elsewhere since yesterday \(train x\.py\).*another folder by --'


def test_the_lock_names_its_holder_and_ends_with_the_block(tmp_path):
    folder = tmp_path / 'new'
    with claim(folder):
        content = json.loads((folder / LOCK_NAME).read_text())
        assert content['pid'] == os.getpid()
        assert content['command'].split()[0].endswith(Path(sys.executable).name)
        with claim(folder):  # the same process, again
            pass
        assert holder(folder) == ''
        with open(folder / LOCK_NAME) as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not folder.exists()


def test_a_taken_folder_is_refused(taken):
    assert holder(taken).startswith('process 4711')
    with pytest.raises(FolderInUseError, match=NAMED), claim(taken):
        pass


def test_a_lock_that_is_being_written_is_refused_too(taken):
    os.truncate(taken / LOCK_NAME, 0)
    with pytest.raises(FolderInUseError, match='another process'), claim(taken):
        pass


def test_a_runner_of_any_project_is_refused(taken):
    runner = build_runner(taken, iters=1)
    with pytest.raises(FolderInUseError, match=NAMED):
        runner.train()
    assert not list(taken.glob('*.pth'))
    release(runner)


def test_so_is_one_whose_checkpoints_go_where_another_writes(taken):
    options = dict(interval=1, by_epoch=False, out_dir=str(taken.parent))
    runner = build_runner(taken.parent / 'elsewhere' / taken.name, iters=1, checkpoint=options)
    with pytest.raises(FolderInUseError, match=NAMED):
        runner.train()
    release(runner)


@pytest.mark.parametrize(
    ('command', 'arguments'),
    [(train, [ROOMS]), (train, [ROOMS, '--resume']), (demo, []), (compare, [ROOMS, '--methods', 'gd'])],
)
def test_commands_are_refused(command, arguments, taken):
    if command is compare:
        os.rename(taken / LOCK_NAME, taken / 'results.json.lock')
    with pytest.raises(FolderInUseError, match=NAMED):
        command.main([*arguments, '--work-dir', str(taken)])


def test_only_the_first_process_of_a_job_claims(taken, monkeypatch):
    cfg = train.Config(dict(work_dir=str(taken), launcher='pytorch'))
    monkeypatch.setenv('RANK', '1')
    with train.claim_work_dir(cfg):
        pass
    monkeypatch.setenv('RANK', '0')
    with pytest.raises(FolderInUseError), train.claim_work_dir(cfg):
        pass


def test_the_lock_ends_with_a_killed_process_though_its_workers_live(tmp_path):
    ready, done = os.pipe(), os.pipe()
    process = os.fork()
    if process == 0:
        with claim(tmp_path):
            if os.fork() == 0:  # a data worker
                os.write(ready[1], b'x')
                os.close(done[1])
                os.read(done[0], 1)
                os._exit(0)
            signal.pause()
    assert os.read(ready[0], 1) == b'x'
    assert holder(tmp_path).startswith(f'process {process} ')
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    try:
        assert holder(tmp_path) == ''
        with claim(tmp_path):
            pass
    finally:
        for descriptor in (*ready, *done):
            os.close(descriptor)


def test_without_locks_a_warning_says_so(tmp_path, monkeypatch, capsys):
    def no_locks(*_args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, 'flock', no_locks)
    with claim(tmp_path):
        pass
    assert 'cannot be locked' in ''.join(capsys.readouterr())


CODES = [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT]


@pytest.mark.parametrize('code', CODES)
@pytest.mark.parametrize('call', ['mkdir', 'open', 'write'])
def test_a_folder_that_cannot_be_written_is_named(call, code, tmp_path, monkeypatch):
    real = getattr(os, call)

    def fail(target, *args, **kwargs):
        if call == 'write' or str(tmp_path) in str(target):
            raise OSError(code, os.strerror(code))
        return real(target, *args, **kwargs)

    monkeypatch.setattr(os, call, fail)
    named = f'cannot write to {tmp_path}/a/b.*--work-dir'
    with pytest.raises(UnwritableFolderError, match=named), claim(tmp_path / 'a' / 'b'):
        pass
    monkeypatch.undo()
    with claim(tmp_path / 'a' / 'b'):
        pass  # nothing is left of the first attempt


@pytest.mark.parametrize('error', [OSError(errno.ENOSPC, 'full'), OSError(errno.ENOSPC, 'full', '/folder/x')])
def test_so_is_one_that_is_full_later(error):
    with pytest.raises(UnwritableFolderError, match=r'cannot write to /folder.*\(full\)'), naming('/folder'):
        raise error


@pytest.mark.parametrize(
    'error', [OSError(errno.EACCES, 'no', '/data/image.png'), OSError(errno.ENOENT, 'no'), UserError('other')]
)
def test_errors_at_other_files_are_left_as_they_are(error):
    with pytest.raises(type(error)) as caught, naming('/folder'):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ('command', 'arguments'),
    [
        (train, [ROOMS]),
        (demo, []),
        (compare, [ROOMS, '--methods', 'gd']),
        (baselines, [ROOMS]),
        (reproduce, ['taskonomy-vit-l', '--run', '--backbone', 'vit-tiny', '--rows', 'gd']),
    ],
)
def test_no_command_works_in_a_file(command, arguments, tmp_path, capsys):
    file = tmp_path / 'file'
    file.write_text('mine')
    with pytest.raises((UserError, OSError, SystemExit)) as caught:
        command.main([*arguments, '--work-dir', str(file / 'run')])
    assert str(file) in str(caught.value) + capsys.readouterr().err
    assert file.read_text() == 'mine'


@pytest.mark.skipif(not Path('/proc/self').exists(), reason='no /proc')
def test_a_folder_that_cannot_be_made_is_named():
    with (
        pytest.raises(UnwritableFolderError, match=r'the folder /proc/none cannot be made .* --work-dir'),
        claim('/proc/none'),
    ):
        pass
