"""Checkpoints of MMEngine's own hook: read as data by our loaders, and left to MMEngine everywhere else."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

from mtl_plugins.runtime.checkpoints import (
    CorruptCheckpointError,
    NoLoadableCheckpointError,
    UnsafeCheckpointError,
    find_newest_loadable,
    safe_loading,
    safe_torch_load,
    why_not_resumable,
)

from .safety import build_runner, release
from .stock import SCHEDULES, run_stock

ROOT = Path(__file__).parents[2]
UNTOUCHED = """
import json, sys, warnings
import mmengine.logging
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.runner import FlexibleRunner, Runner
from mmengine.runner.checkpoint import CheckpointLoader

def state():
    return [
        dict(CheckpointLoader._schemes), mmengine.logging.print_log,
        [f for f in warnings.filters if 'MultiScale' in str(f)],
        *({k: v for k, v in vars(c).items()} for c in (Runner, FlexibleRunner, CheckpointHook, OptimWrapper)),
    ]

before = state()
for module in sys.argv[1:]:
    __import__(module)
print([i for i, (a, b) in enumerate(zip(before, state())) if a != b])
"""


def test_an_import_changes_nothing_of_the_stack():
    modules = ['mtl_plugins', 'mtl_plugins.registry', 'mtl_plugins.engine', 'mtl_plugins.engine.hooks']
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(
        [sys.executable, '-c', UNTOUCHED, *modules], env=environment, capture_output=True, text=True, timeout=120
    )
    *_, told = done.stdout.splitlines() or ['']  # the stack may say something before
    assert told == '[]', done.stdout + done.stderr[-2000:]


@pytest.mark.parametrize('schedule', SCHEDULES)
def test_what_mmengine_pickles_is_read_as_data(tmp_path, schedule):
    optimizer = dict(type='SGD', lr=0.1, momentum=0.9) if schedule == 'momentum' else None
    path = run_stock(tmp_path, schedule=schedule, optimizer=optimizer)
    assert why_not_resumable(path) is None
    expected, found = torch.load(path, weights_only=False), safe_torch_load(path)
    assert found.keys() == expected.keys()
    assert found['meta'] == expected['meta']
    functions = [key for state in expected['param_schedulers'] for key, value in state.items() if callable(value)]
    assert functions == (['anneal_func'] if schedule == 'one_cycle' else [])
    assert found['param_schedulers'] == [
        {key: value for key, value in state.items() if key not in functions} for state in expected['param_schedulers']
    ]
    for name, scalars in expected['message_hub']['log_scalars'].items():
        read = found['message_hub']['log_scalars'][name]
        assert isinstance(read, HistoryBuffer)
        assert read.max_length == scalars.max_length
        for own, other in zip(read.data, scalars.data):
            np.testing.assert_array_equal(own, other)
            assert own.dtype == other.dtype
        assert read.mean(2) == scalars.mean(2)


ARRAYS = (
    np.arange(6, dtype='>i2').reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.array([True, False]),
    np.array(['a', 'bcd']),
    np.array([1 + 2j], dtype=np.complex64),
    np.array([[1, 'a'], [None, (2, 3)]], dtype=object),
    np.zeros((0, 3), dtype=np.uint8),
    np.float32(0.1),
    np.int64(-3),
)


@pytest.mark.parametrize('legacy', [False, True])
def test_arrays_and_scalars_come_back_as_they_were(tmp_path, legacy):
    torch.save(dict(x=list(ARRAYS)), tmp_path / 'a.pth', _use_new_zipfile_serialization=not legacy)
    for own, other in zip(safe_torch_load(tmp_path / 'a.pth')['x'], ARRAYS):
        assert own.dtype == other.dtype
        assert own.shape == other.shape
        np.testing.assert_array_equal(own, other)


class Calls:
    """Pickled as a call of ``function``."""

    def __init__(self, function, *args, state=None):
        self.result = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.result


REBUILD, RAW = np.zeros(1).__reduce__()[0], (1, (1,), np.dtype(float), False, b'12345678')


FORGED = Calls(np.dtype, 'O8', state=(3, '|', None, None, None, -1, -1, 0))


@pytest.mark.parametrize(
    ('forged', 'error'),
    [
        (lambda evil: np.array([Calls(os.mkdir, evil)], dtype=object), UnsafeCheckpointError),
        (lambda evil: Calls(getattr, os.mkdir, '__call__'), UnsafeCheckpointError),
        (lambda evil: Calls(getattr, torch.Tensor, '__init__'), UnsafeCheckpointError),
        (lambda evil: Calls(getattr, 'text', '__class__'), UnsafeCheckpointError),
        (lambda evil: Calls(np.dtype, 'V8'), CorruptCheckpointError),
        # Bytes as if they were pointers to objects: with NumPy's own functions this would be a jump to anywhere.
        (
            lambda evil: Calls(REBUILD, np.ndarray, (0,), b'b', state=(*RAW[:2], np.dtype(object), *RAW[3:])),
            CorruptCheckpointError,
        ),
        (
            lambda evil: Calls(
                REBUILD,
                np.ndarray,
                (0,),
                b'b',
                state=(*RAW[:2], FORGED, *RAW[3:]),
            ),
            CorruptCheckpointError,
        ),
        (lambda evil: Calls(REBUILD, np.ndarray, (0,), b'b', state=(1, (9,), *RAW[2:])), CorruptCheckpointError),
        (lambda evil: Calls(REBUILD, np.ndarray, (0,), b'b'), CorruptCheckpointError),
        (lambda evil: Calls(HistoryBuffer.__new__, HistoryBuffer), UnsafeCheckpointError),
    ],
)
def test_forged_data_runs_nothing(tmp_path, forged, error):
    evil = tmp_path / 'evil'
    torch.save(dict(state_dict={}, x=forged(str(evil))), tmp_path / 'a.pth')
    with pytest.raises(error, match=r'a\.pth'):
        safe_torch_load(tmp_path / 'a.pth')
    assert not evil.exists()


class TestLoadersAreOurs:
    def test_for_a_while(self):
        before = dict(CheckpointLoader._schemes)
        CheckpointLoader._schemes = {**before, '': torch.load}
        try:
            with safe_loading():
                assert CheckpointLoader._schemes[''].__module__.startswith('mtl_plugins')
            with pytest.raises(KeyError), safe_loading():
                raise KeyError
            assert CheckpointLoader._schemes[''] is torch.load
        finally:
            CheckpointLoader._schemes = before

    def test_and_trust_ends_with_them(self, tmp_path):
        torch.save(dict(x=Calls(os.mkdir, str(tmp_path / 'evil'))), tmp_path / 'a.pth')
        with safe_loading(trusted=True):
            safe_torch_load(tmp_path / 'a.pth')
        assert (tmp_path / 'evil').is_dir()
        with pytest.raises(UnsafeCheckpointError), safe_loading():
            safe_torch_load(tmp_path / 'a.pth')


def test_a_run_of_mmengine_goes_on_with_our_hook(tmp_path):
    path = run_stock(tmp_path, iters=4)
    runner = build_runner(tmp_path, iters=6, resume_from=path, rng_hook=False)
    runner.train()
    release(runner)
    assert runner.iter == 6
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 4 + 2


class TestAFolderOfWhichNothingLoads:
    @pytest.fixture
    def broken(self, tmp_path):
        torch.save(dict(x=Calls(os.mkdir, str(tmp_path / 'evil'))), tmp_path / 'iter_2.pth')
        (tmp_path / 'epoch_3.pth').write_bytes(b'half a file')
        torch.save(dict(state_dict={}), tmp_path / 'best_mIoU_iter_1.pth')
        return tmp_path

    def test_is_an_error_that_names_each_file_and_why(self, broken):
        with pytest.raises(NoLoadableCheckpointError) as caught:
            find_newest_loadable(broken)
        lines = str(caught.value).splitlines()
        for name, reason in (('iter_2', 'mkdir'), ('epoch_3', 'no readable'), ('best_mIoU_iter_1', 'no optimizer')):
            assert any(f'{name}.pth' in line and reason in line for line in lines)
        assert '--resume-from' in lines[-1]

    def test_elsewhere_too(self, broken, tmp_path_factory):
        work_dir = tmp_path_factory.mktemp('work')
        (work_dir / 'last_checkpoint').write_text(str(broken / 'iter_2.pth'))
        with pytest.raises(NoLoadableCheckpointError, match='epoch_3'):
            find_newest_loadable(work_dir)

    def test_a_folder_that_is_not_there(self, tmp_path):
        (tmp_path / 'last_checkpoint').write_text('/mnt/not/mounted/iter_2.pth')
        with pytest.raises(NoLoadableCheckpointError, match=r'last_checkpoint names /mnt/not/mounted/iter_2\.pth'):
            find_newest_loadable(tmp_path)

    def test_weights_to_start_from_are_no_checkpoints_of_a_run(self, tmp_path):
        torch.save(dict(state_dict={}), tmp_path / 'pretrained.pth')
        assert find_newest_loadable(tmp_path) is None


def test_the_text_of_a_config_in_a_checkpoint_is_not_executed(tmp_path):
    """Plain data, but MMEngine's resume executes ``meta['config']``."""
    evil = tmp_path / 'evil'
    path = run_stock(tmp_path, iters=2)
    checkpoint = torch.load(path, weights_only=False)
    checkpoint['meta']['config'] = f'import os\nos.mkdir({str(evil)!r})\n'
    torch.save(checkpoint, path)
    runner = build_runner(tmp_path, iters=4, resume_from=path, rng_hook=False)
    runner.train()
    release(runner)
    assert runner.iter == 4
    assert not evil.exists()
