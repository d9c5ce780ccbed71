import math
import random
from pathlib import Path

import numpy as np
import pytest
from mmengine.hooks import Hook

from mtl_plugins.errors import UserError
from mtl_plugins.runtime.checkpoints import (
    CheckpointWriteError,
    NotPlainError,
    ResumeMismatchError,
    atomic_backend,
    check_resume_compatibility,
    find_newest_loadable,
)
from mtl_plugins.runtime.hooks.safe_checkpoint import SafeCheckpointHook

from .safety import Recorder, StopAfter, build_runner, fail_writing, release, strict_load


class TestSafeCheckpointHook:
    def test_file_loads_without_allow_listing_and_resumes_the_message_hub(self, tmp_path):
        whole = build_runner(tmp_path / 'whole', iters=12, val_interval=3)
        whole.train()
        stopped = build_runner(tmp_path / 'stopped', [StopAfter(7)], iters=12, val_interval=3)
        stopped.message_hub.update_info('an_array', np.arange(3.0))
        with pytest.raises(StopAfter.Stop):
            stopped.train()
        path = tmp_path / 'stopped' / 'iter_7.pth'
        checkpoint = strict_load(path)
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
        hub = strict_load(tmp_path / 'iter_1.pth')['message_hub']
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
        assert strict_load(next(tmp_path.glob('best*.pth')))['meta']['iter'] in (2, 4, 6)
        assert len(list(tmp_path.glob('iter_*.pth'))) == 1
        release(runner)

    def test_disk_full_once_then_training_and_saving_go_on(self, tmp_path, monkeypatch, capsys):
        class FullAtThree(Hook):
            def before_train_iter(self, runner, batch_idx, data_batch=None):
                if runner.iter == 2:
                    fail_writing(monkeypatch)
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
                    fail_writing(monkeypatch)

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

    def test_a_metric_that_is_not_measured_is_named_with_those_that_are(self, tmp_path):
        options = dict(interval=2, by_epoch=False, save_best='numbers/nope', rule='less')  # none is due when it stops
        runner = build_runner(tmp_path, [], iters=2, val_interval=1, checkpoint=options)
        with pytest.raises(UserError, match="save_best: the validation measures no 'numbers/nope', but numbers/error"):
            runner.train()
        assert (tmp_path / 'iter_1.pth').is_file()

    def test_a_metric_that_is_nan_is_said_to_have_no_best(self, tmp_path, monkeypatch):
        options = dict(interval=2, by_epoch=False, save_best='numbers/error', rule='less')
        runner = build_runner(tmp_path, [], iters=6, val_interval=2, checkpoint=options)
        said = []
        monkeypatch.setattr(runner.logger, 'warning', lambda text, *_: said.append(text))
        values = iter([math.nan, math.nan, 3.0])
        monkeypatch.setattr(type(runner.val_evaluator), 'evaluate', lambda *_: {'numbers/error': next(values)})
        runner.train()
        (text,) = [text for text in said if 'save_best' in text]
        assert text.startswith('save_best: numbers/error is nan at iteration 2, which is never the best')
        assert [path.name for path in tmp_path.glob('best*.pth')] == ['best_numbers_error_iter_6.pth']
        release(runner)

    @pytest.mark.parametrize('options', [dict(save_best='foo'), dict(save_best='foo', rule='best')])
    def test_a_best_whose_direction_nobody_knows(self, options):
        with pytest.raises(UserError, match=r'CheckpointHook: .*rule.*less'):
            SafeCheckpointHook(interval=1, **options)

    def test_disk_full_to_the_end_fails_at_the_end(self, tmp_path, monkeypatch):
        recorder = Recorder()
        runner = build_runner(tmp_path, [recorder], iters=3)
        fail_writing(monkeypatch)
        with pytest.raises(CheckpointWriteError, match=r'iter_3\.pth'):
            runner.train()
        assert sorted(recorder.losses) == [1, 2, 3]
        assert list(tmp_path.glob('*.pth')) == []
        release(runner)

    def test_strict_stops_at_once(self, tmp_path, monkeypatch):
        recorder = Recorder()
        runner = build_runner(tmp_path, [recorder], iters=3, checkpoint=dict(interval=1, by_epoch=False, strict=True))
        fail_writing(monkeypatch)
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
