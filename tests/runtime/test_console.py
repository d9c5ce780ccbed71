"""What is left on the console before the first iteration, and what goes into the log file alone."""

import inspect
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

from mtl_plugins.cli import train
from mtl_plugins.engine.hooks import CostHook
from mtl_plugins.runtime.console import keep_console_short
from tests.support.tiny import ROOMS, options

from .safety import build_runner, release

WITHOUT_VALIDATION = ('val_cfg=None', 'val_dataloader=None', 'val_evaluator=None')
DUMPS = ('System environment:', 'Config:', 'Hooks will be executed')


@pytest.fixture(autouse=True)
def _own_loggers(monkeypatch):
    """What keeps the console short holds for a whole process: here for one test, whatever ran before."""
    monkeypatch.setattr(MMLogger, '__init__', inspect.unwrap(MMLogger.__init__))


@pytest.mark.parametrize('verbose', [False, True])
def test_a_config_of_ours(tmp_path, capsys, verbose):
    arguments = [
        ROOMS,
        '--work-dir',
        str(tmp_path),
        *options(1, 'val_cfg=None', 'val_dataloader=None', 'val_evaluator=None'),
    ]
    assert train.main([*arguments, *['--verbose'] * verbose]) == 0
    shown = capsys.readouterr().out
    (log,) = tmp_path.glob('*/*.log')
    kept = log.read_text()
    assert all(dump in kept for dump in DUMPS)
    assert all((dump in shown) == verbose for dump in DUMPS)
    before, tasks, _ = shown.partition('tasks: semseg = semseg.loss; depth = depth.loss')
    assert tasks
    assert verbose or before.count('\n') < 30
    for said in ('training MultiTaskSegmentor (', 'samples of RoomsDataset in batches of 2', "method 'stgu'", str(log)):
        assert said in before


def test_a_run_that_is_not_ours(tmp_path, capsys):
    keep_console_short()
    runner = build_runner(tmp_path, [CostHook()], log_level='INFO')
    runner.logger.warning('a warning of\nseveral lines')
    runner.train()
    release(runner)
    shown = capsys.readouterr().out
    assert 'a warning of\nseveral lines' in shown
    assert 'OptimWrapper: the sum of all losses, no multi-task method' in shown
    assert not any(dump in shown for dump in DUMPS)
    assert len(shown.split('Iter(train)')[0].splitlines()) <= 30
    assert Path(runner.logger.log_file).exists()
