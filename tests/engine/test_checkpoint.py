import errno
import io
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer

from mtl_plugins.engine.checkpoints import (
    CheckpointWriteError,
    NotPlainError,
    ResumeMismatchError,
    atomic_backend,
    check_resume_compatibility,
    find_newest_loadable,
    from_plain,
    newest,
    to_plain,
    write_atomically,
)
from mtl_plugins.engine.hooks.safe_checkpoint import SafeCheckpointHook

from .safety import Recorder, StopAfter, build_runner, release

ROOT = Path(__file__).parents[2]


def _strict_load(path):
    with torch.serialization.safe_globals([]):
        return torch.load(path, weights_only=True)


def _names(folder):
    return sorted(path.name for path in Path(folder).iterdir() if path.is_file() and path.suffix != '.py')


def _fail_writing(monkeypatch, after_bytes=1000, code=errno.ENOSPC):
    """Make the disk full after ``after_bytes`` bytes of any one file."""
    real = os.write
    written = {}

    def write(descriptor, data):
        written[descriptor] = written.get(descriptor, 0) + len(data)
        if written[descriptor] > after_bytes:
            real(descriptor, bytes(data[:10]))
            raise OSError(code, os.strerror(code))
        return real(descriptor, data)

    monkeypatch.setattr(atomic_backend.os, 'write', write)


class TestAtomicWrite:
    def test_content_and_permissions(self, tmp_path):
        data = os.urandom(3 * (1 << 22) + 17)
        get_file_backend(backend_args=dict(backend='mtl_atomic')).put(data, tmp_path / 'deep' / 'a.pth')
        (tmp_path / 'plain').write_bytes(b'')
        assert (tmp_path / 'deep' / 'a.pth').read_bytes() == data
        assert (tmp_path / 'deep' / 'a.pth').stat().st_mode == (tmp_path / 'plain').stat().st_mode
        assert _names(tmp_path / 'deep') == ['a.pth']

    def test_disk_full_keeps_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / 'a.pth'
        write_atomically(b'old', path)
        _fail_writing(monkeypatch)
        with pytest.raises(CheckpointWriteError) as caught:
            write_atomically(b'x' * 5000, path)
        assert path.read_bytes() == b'old'
        assert _names(tmp_path) == ['a.pth']
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.bytes_free > 0
        message = str(caught.value)
        assert str(path) in message
        assert '5,000 bytes are needed' in message
        assert f'{caught.value.bytes_free:,} bytes are free' in message

    def test_real_size_limit(self, tmp_path):
        path = tmp_path / 'a.pth'
        write_atomically(b'old', path)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(CheckpointWriteError, match='File too large'):
                write_atomically(b'x' * 10_000, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == b'old'
        assert _names(tmp_path) == ['a.pth']

    def test_damage_on_the_way_to_the_disk_is_found(self, tmp_path, monkeypatch):
        real = os.write

        def flip(descriptor, data):
            return real(descriptor, bytes(data[:-1]) + bytes([data[-1] ^ 1]))

        path = tmp_path / 'a.pth'
        write_atomically(b'old', path)
        monkeypatch.setattr(atomic_backend.os, 'write', flip)
        with pytest.raises(CheckpointWriteError, match='other bytes than were written'):
            write_atomically(b'new', path)
        assert path.read_bytes() == b'old'

    def test_interrupt_leaves_no_partial_file(self, tmp_path, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(atomic_backend.os, 'fsync', interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(b'new', tmp_path / 'a.pth')
        assert _names(tmp_path) == []

    @pytest.mark.slow
    def test_full_file_system(self, tmp_path):
        disk = tmp_path / 'disk'
        disk.mkdir()
        command = ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', str(disk)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip('a small file system can only be mounted by root')
        try:
            write_atomically(b'o' * 30_000, disk / 'a.pth')
            with pytest.raises(CheckpointWriteError, match='No space left'):
                write_atomically(b'n' * 60_000, disk / 'a.pth')
            assert (disk / 'a.pth').read_bytes() == b'o' * 30_000
            assert _names(disk) == ['a.pth']
        finally:
            subprocess.run(['umount', str(disk)], check=True)


class TestPlainState:
    def _round_trip(self, value):
        buffer = io.BytesIO()
        torch.save(to_plain(value), buffer)
        buffer.seek(0)
        return from_plain(_strict_load(buffer))

    @pytest.mark.parametrize(
        'array',
        [
            np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::2],
            np.array(2.5),
            np.zeros((0, 4), dtype=np.int16),
            np.array([1, 2], dtype='>i4'),
            np.array(['ab', 'c']),
            np.array([True, False]),
            np.array(['2024-01-01'], dtype='datetime64[D]'),
            np.array([(1, 2.0)], dtype=[('a', 'i4'), ('b', 'f8')]),
        ],
        ids=lambda array: str(array.dtype),
    )
    def test_arrays(self, array):
        back = self._round_trip(dict(x=array))['x']
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert np.array_equal(back, array)
        back[...] = back  # writable

    def test_array_of_objects(self):
        array = np.empty(2, dtype=object)
        array[0], array[1] = [1, 2], [np.float32(3), 'x']
        back = self._round_trip(array)
        assert back.dtype == object
        assert back.tolist() == [[1, 2], [3, 'x']]

    @pytest.mark.parametrize('value', [np.float64(0.1), np.float32(0.1), np.int64(-3), np.bool_(True), np.str_('é')])
    def test_scalars(self, value):
        back = self._round_trip([value])[0]
        assert type(back) is type(value)
        assert back == value

    def test_history_goes_on_as_before(self):
        history = HistoryBuffer([1, 2], [1, 1], max_length=3)
        history.update(0.5, 2)
        back = self._round_trip(dict(h=history))['h']
        for buffer in (history, back):
            buffer.update(9.0, 1)
        assert back.max_length == 3
        for new, old in zip(back.data, history.data):
            assert new.dtype == old.dtype
            assert np.array_equal(new, old)
        assert back.mean(2) == history.mean(2)
        assert back.statistics('max') == history.statistics('max')

    def test_plain_data_is_not_copied_or_changed(self):
        state = nn_state = torch.nn.Linear(2, 2).state_dict()
        value = dict(state=state, numbers=[1, 2.0, (None, True, 'x')], names={'a'}, size=torch.Size([1]))
        assert to_plain(value) is value
        assert from_plain(value) is value
        assert value['state']._metadata is nn_state._metadata

    def test_other_containers(self):
        from collections import defaultdict, namedtuple
        from enum import IntEnum

        pair = namedtuple('pair', 'a b')
        level = IntEnum('level', 'LOW')
        value = dict(a=pair(1, np.int8(2)), b=defaultdict(list, x=[1]), c=Path('p'), d=frozenset({1}), e=level.LOW)
        assert self._round_trip(value) == dict(a=(1, 2), b=dict(x=[1]), c='p', d={1}, e=1)

    def test_objects_are_named(self):
        with pytest.raises(NotPlainError, match=r"\['a'\]\[1\] is a .*Random"):
            to_plain(dict(a=[1, random.Random()]))


class TestSafeCheckpointHook:
    def test_file_loads_without_allow_listing_and_resumes_the_message_hub(self, tmp_path):
        whole = build_runner(tmp_path / 'whole', iters=12, val_interval=3)
        whole.train()
        stopped = build_runner(tmp_path / 'stopped', [StopAfter(7)], iters=12, val_interval=3)
        stopped.message_hub.update_info('an_array', np.arange(3.0))
        with pytest.raises(StopAfter.Stop):
            stopped.train()
        path = tmp_path / 'stopped' / 'iter_7.pth'
        checkpoint = _strict_load(path)
        assert checkpoint['meta']['mtl'] == dict(
            tasks=None, method='OptimWrapper', world_size=1, batch_size=2, replaces=[]
        )
        resumed = build_runner(tmp_path / 'stopped', iters=12, val_interval=3, resume_from=path)
        resumed.train()
        assert np.array_equal(resumed.message_hub.get_info('an_array'), np.arange(3.0))
        timing = ('time', 'data_time')
        for key, history in whole.message_hub.log_scalars.items():
            other = resumed.message_hub.log_scalars[key]
            if key.endswith(timing):
                assert len(other.data[0]) == len(history.data[0])
                continue
            for new, old in zip(other.data, history.data):
                assert new.dtype == old.dtype
                assert np.array_equal(new, old), key
            assert other.mean(5) == history.mean(5)
        for runner in (whole, stopped, resumed):
            release(runner)

    def test_object_in_the_message_hub_is_left_out(self, tmp_path):
        runner = build_runner(tmp_path, iters=1)
        runner.message_hub.update_info('odd', random.Random())
        runner.train()
        hub = _strict_load(tmp_path / 'iter_1.pth')['message_hub']
        assert 'odd' not in hub['runtime_info']
        assert 'train/loss' in hub['log_scalars']
        release(runner)

    def test_object_elsewhere_is_an_error(self, tmp_path):
        class Careless(Hook):
            def before_save_checkpoint(self, runner, checkpoint):
                checkpoint['careless'] = dict(rng=random.Random())

        runner = build_runner(tmp_path, [Careless()], iters=1)
        with pytest.raises(NotPlainError, match=r"checkpoint\['careless'\]\['rng'\] is a random.Random"):
            runner.train()
        release(runner)

    def test_old_file_goes_after_the_new_one_is_there(self, tmp_path, monkeypatch):
        seen = []
        real = atomic_backend.os.replace

        def replace(source, target):
            real(source, target)
            if Path(target).suffix == '.pth':
                seen.append(sorted(path.name for path in tmp_path.glob('*.pth')))

        monkeypatch.setattr(atomic_backend.os, 'replace', replace)
        runner = build_runner(tmp_path, iters=3, checkpoint=dict(interval=1, by_epoch=False, max_keep_ckpts=1))
        runner.train()
        assert seen == [['iter_1.pth'], ['iter_1.pth', 'iter_2.pth'], ['iter_2.pth', 'iter_3.pth']]
        assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_3.pth']
        assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_3.pth')
        release(runner)

    def test_best_file_goes_after_the_new_best_is_there(self, tmp_path, monkeypatch):
        seen = []
        real = atomic_backend.os.replace

        def replace(source, target):
            real(source, target)
            if Path(target).name.startswith('best'):
                seen.append(len(list(tmp_path.glob('best*.pth'))))

        monkeypatch.setattr(atomic_backend.os, 'replace', replace)
        options = dict(interval=2, by_epoch=False, max_keep_ckpts=1, save_best='numbers/error', rule='less')
        runner = build_runner(tmp_path, iters=6, val_interval=2, checkpoint=options)
        runner.train()
        assert seen[0] == 1
        assert 2 in seen
        assert len(list(tmp_path.glob('best*.pth'))) == 1
        assert _strict_load(next(tmp_path.glob('best*.pth')))['meta']['iter'] in (2, 4, 6)
        assert len(list(tmp_path.glob('iter_*.pth'))) == 1
        release(runner)

    def test_disk_full_once_then_training_and_saving_go_on(self, tmp_path, monkeypatch, capsys):
        class FullAtThree(Hook):
            def before_train_iter(self, runner, batch_idx, data_batch=None):
                if runner.iter == 2:
                    _fail_writing(monkeypatch)
                elif runner.iter == 3:
                    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['iter_2.pth']
                    assert list(tmp_path.glob('.*')) == []
                    assert runner.message_hub.get_info('keep_ckpt_ids') == [2]
                    assert runner.message_hub.get_info('last_ckpt') == str(tmp_path / 'iter_2.pth')
                    monkeypatch.undo()

        runner = build_runner(
            tmp_path, [FullAtThree()], iters=4, checkpoint=dict(interval=1, by_epoch=False, max_keep_ckpts=1)
        )
        runner.train()
        assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_4.pth']
        printed = capsys.readouterr().out
        assert 'NO CHECKPOINT WAS SAVED at iteration 2' in printed
        assert str(tmp_path / 'iter_3.pth') in printed
        assert 'bytes are needed' in printed
        assert f'The last good one is {tmp_path / "iter_2.pth"}' in printed
        release(runner)

    def test_disk_full_for_a_new_best_keeps_the_old_best(self, tmp_path, monkeypatch):
        class FullInSecondValidation(Hook):
            def before_val(self, runner):
                if runner.iter == 4:
                    best = next(iter(tmp_path.glob('best*.pth')))
                    assert runner.message_hub.get_info('best_ckpt') == str(best)
                    _fail_writing(monkeypatch)

            def after_val(self, runner):
                if runner.iter == 4:
                    monkeypatch.undo()
                    assert [path.name for path in tmp_path.glob('best*.pth')] == ['best_numbers_error_iter_2.pth']
                    assert runner.message_hub.get_info('best_ckpt').endswith('_iter_2.pth')

        options = dict(interval=2, by_epoch=False, save_best='numbers/error', rule='greater')
        # Each validation counts as better than the last one.
        monkeypatch.setattr(SafeCheckpointHook, 'rule_map', dict(greater=lambda *_: True))
        probe = FullInSecondValidation()
        probe.priority = 'LOWEST'
        runner = build_runner(tmp_path, [probe], iters=6, val_interval=2, checkpoint=options)
        runner.train()
        assert [path.name for path in tmp_path.glob('best*.pth')] == ['best_numbers_error_iter_6.pth']
        release(runner)

    def test_disk_full_to_the_end_fails_at_the_end(self, tmp_path, monkeypatch):
        recorder = Recorder()
        runner = build_runner(tmp_path, [recorder], iters=3)
        _fail_writing(monkeypatch)
        with pytest.raises(CheckpointWriteError, match=r'iter_3\.pth'):
            runner.train()
        assert sorted(recorder.losses) == [1, 2, 3]
        assert list(tmp_path.glob('*.pth')) == []
        release(runner)

    def test_strict_stops_at_once(self, tmp_path, monkeypatch):
        recorder = Recorder()
        runner = build_runner(tmp_path, [recorder], iters=3, checkpoint=dict(interval=1, by_epoch=False, strict=True))
        _fail_writing(monkeypatch)
        with pytest.raises(CheckpointWriteError, match=r'iter_1\.pth'):
            runner.train()
        assert sorted(recorder.losses) == [1]
        release(runner)

    def test_kill_between_saving_and_removing_is_cleaned_up(self, tmp_path):
        class Kill(BaseException):
            pass

        def killed(*_):
            raise Kill

        options = dict(interval=1, by_epoch=False, max_keep_ckpts=1)
        runner = build_runner(tmp_path, iters=2, checkpoint=options)
        hook = next(hook for hook in runner.hooks if type(hook).__name__ == 'SafeCheckpointHook')
        hook._remove = lambda runner, paths: killed() if paths else None
        with pytest.raises(Kill):
            runner.train()
        assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['iter_1.pth', 'iter_2.pth']
        (tmp_path / '.iter_3.pth.99.mtl-part').write_bytes(b'half')
        resumed = build_runner(tmp_path, iters=3, checkpoint=options, resume_from=find_newest_loadable(tmp_path))
        resumed.train()
        assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_3.pth']
        assert list(tmp_path.glob('.*')) == []
        release(runner)
        release(resumed)

    def test_resume_with_another_batch_size_is_refused(self, tmp_path):
        runner = build_runner(tmp_path, iters=1)
        runner.train()
        other = build_runner(tmp_path, iters=2, batch_size=3, resume_from=tmp_path / 'iter_1.pth')
        with pytest.raises(ResumeMismatchError, match='batch size per process: 2 in the checkpoint, 3 now'):
            other.train()
        release(runner)
        release(other)

    def test_fine_tuning_with_another_batch_size_is_fine(self, tmp_path):
        runner = build_runner(tmp_path, iters=1)
        runner.train()
        other = build_runner(tmp_path / 'other', iters=1, batch_size=3)
        other._load_from = str(tmp_path / 'iter_1.pth')
        other.train()
        release(runner)
        release(other)


def test_resume_guard_names_every_difference_and_the_way_out():
    saved = dict(tasks=['a', 'b'], method='stgu', world_size=2, batch_size=8, replaces=['x'])
    check_resume_compatibility(saved, dict(saved, tasks=('a', 'b')))
    check_resume_compatibility(saved, dict(saved, tasks=None, num_workers=9))
    with pytest.raises(ResumeMismatchError) as caught:
        check_resume_compatibility(saved, dict(tasks=['b', 'a'], method='gd', world_size=4, batch_size=8))
    message = str(caught.value)
    assert 'tasks: [a, b] in the checkpoint, [b, a] now' in message
    assert 'method: stgu in the checkpoint, gd now' in message
    assert 'number of processes: 2 in the checkpoint, 4 now' in message
    assert 'batch size' not in message
    assert 'load_from' in message


class TestFindNewestLoadable:
    @pytest.fixture
    def folder(self, tmp_path):
        runner = build_runner(tmp_path, iters=11, checkpoint=dict(interval=3, by_epoch=False))
        runner.train()
        release(runner)
        return tmp_path  # iter_3, 6, 9, 11

    def test_highest_iteration(self, folder):
        (folder / 'last_checkpoint').write_text(str(folder / 'gone.pth'))
        assert find_newest_loadable(folder) == str(folder / 'iter_11.pth')

    def test_damaged_files_are_skipped_with_a_line_each(self, folder, monkeypatch):
        lines = []
        monkeypatch.setattr(newest, 'print_log', lambda text, *_: lines.append(text))
        whole = (folder / 'iter_11.pth').read_bytes()
        (folder / 'iter_11.pth').write_bytes(whole[: len(whole) // 2])
        damaged = bytearray((folder / 'iter_9.pth').read_bytes())
        place = damaged.find(_strict_load(folder / 'iter_9.pth')['state_dict']['body.0.weight'].numpy().tobytes())
        assert place > 0
        damaged[place] ^= 1  # one bit of one weight
        (folder / 'iter_9.pth').write_bytes(damaged)
        (folder / 'iter_20.pth').write_bytes(b'')
        torch.save(dict(state_dict={}), folder / 'iter_30.pth')
        assert find_newest_loadable(folder) == str(folder / 'iter_6.pth')
        reasons = dict(
            iter_30='holds no meta and no optimizer', iter_20='truncated', iter_11='truncated', iter_9='checksum'
        )
        assert len(lines) == len(reasons)
        for line, (name, reason) in zip(lines, reasons.items()):
            assert line.startswith(f'{folder / name}.pth is passed over: ')
            assert reason in line

    def test_nothing_there(self, tmp_path):
        assert find_newest_loadable(tmp_path / 'none') is None
        (tmp_path / 'last_checkpoint').write_bytes(b'\0')
        assert find_newest_loadable(tmp_path) is None

    def test_pointer_to_another_folder(self, folder, tmp_path_factory):
        work_dir = tmp_path_factory.mktemp('work')
        (work_dir / 'last_checkpoint').write_text(str(folder / 'iter_3.pth'))
        assert find_newest_loadable(work_dir) == str(folder / 'iter_11.pth')


def _kill_while_saving(work_dir, generator):
    """Train from the newest checkpoint on, saving after each iteration, and kill it at a random moment."""
    command = [sys.executable, '-m', 'tests.engine.safety', str(work_dir), '--keep', '1', '--width', '60000']
    environment = dict(os.environ, OMP_NUM_THREADS='1')
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        output = []
        for line in process.stdout:
            output.append(line)
            if line.startswith('iteration') and sum(o.startswith('iteration') for o in output) == 2:
                break
        time.sleep(generator.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        output += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL, ''.join(output)
    reached = [int(line.split()[1]) for line in output if line.startswith('iteration')]
    start = next(line.split()[1] for line in output if line.startswith('start'))
    return start, max(reached)


@pytest.mark.parametrize('kills', [3, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_kill_9_around_saves_with_one_checkpoint_kept(tmp_path, kills):
    generator = random.Random(0)
    expected = 'None'
    for _ in range(kills):
        start, reached = _kill_while_saving(tmp_path, generator)
        assert start == expected  # it resumed from what the last kill had left
        expected = find_newest_loadable(tmp_path)
        assert expected is not None
        iteration = torch.load(expected, weights_only=True)['meta']['iter']
        assert reached - 1 <= iteration <= reached
        assert len(list(tmp_path.glob('iter_*.pth'))) <= 2
