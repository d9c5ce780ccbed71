import errno
import io
import logging
import os
import re
import sys

import pytest
from mmengine.hooks import Hook
from rich.console import Console

from mtl_plugins.runtime.hooks import progress
from mtl_plugins.runtime.hooks.progress import RichProgressHook, fitting, format_seconds
from mtl_plugins.runtime.hooks.terminal import AboveBarStream

from .safety import build_runner, release

SHOW_CURSOR = '\x1b[?25h'
HIDE_CURSOR = '\x1b[?25l'


@pytest.fixture
def console():
    return Console(file=io.StringIO(), force_terminal=True, width=150, legacy_windows=False)


@pytest.fixture(autouse=True)
def streams():
    before = sys.stdout, sys.stderr
    yield
    assert (sys.stdout, sys.stderr) == before


def _text(console):
    return re.sub(r'\x1b\[[0-9;?]*[a-zA-Z]', '', console.file.getvalue())


def _handlers(runner):
    return [handler for handler in runner.logger.handlers if type(handler) is logging.StreamHandler]


class Speaker(Hook):
    """Logs and prints during training, and reports a number of groups."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.message_hub.update_scalar('train/num_groups', 3)
        if runner.iter == 1:
            runner.logger.warning('a line of the log')
            print('a printed line')
            sys.stderr.write('half')
            sys.stderr.write(' a line\n')

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 4 and batch_idx == 0:
            runner.logger.warning('a line in validation')


def test_bars_and_lines_share_the_terminal(tmp_path, console, capsys):
    runner = build_runner(tmp_path, [RichProgressHook(refresh=0, console=console), Speaker()], iters=6, val_interval=2)
    [handler] = _handlers(runner)
    stream = handler.stream
    runner.train()
    assert handler.stream is stream
    release(runner)
    text = _text(console)
    assert re.search(r'train .*6/6 .*it ?/s .*ETA 0:00 +M 3 +loss \d', text) or re.search(
        r'train .*6/6 .*s/it .*ETA 0:00 +M 3 +loss \d', text
    )
    assert re.search(r'val .*5/5', text)
    lines = [line.strip() for line in re.split(r'[\r\n]+', text)]
    for expected in ('a printed line', 'half a line'):
        assert lines.count(expected) == 1
    assert sum(line.endswith('a line of the log') for line in lines) == 1
    assert 'a line in validation' in text
    output = capsys.readouterr()
    assert 'a line' not in output.out + output.err
    raw = console.file.getvalue()
    assert raw.rindex(SHOW_CURSOR) > raw.rindex(HIDE_CURSOR)


def test_a_terminal_that_was_closed_ends_no_run(tmp_path):
    class Terminal(io.StringIO):
        def write(self, text):
            if len(self.getvalue()) > 200:
                raise OSError(errno.EIO, 'Input/output error')
            return super().write(text)

    console = Console(file=Terminal(), force_terminal=True, width=150, legacy_windows=False)
    runner = build_runner(tmp_path, [RichProgressHook(refresh=0, console=console)], iters=4, val_interval=2)
    runner.train()
    release(runner)
    assert runner.iter == 4


def test_without_a_terminal_nothing_changes(tmp_path, capsys):
    hook = RichProgressHook(refresh=0)
    runner = build_runner(tmp_path, [hook, Speaker()], iters=4, val_interval=2)
    runner.train()
    release(runner)
    output = capsys.readouterr()
    assert 'a printed line\n' in output.out
    assert 'half a line\n' in output.err
    assert 'it/s' not in output.out
    assert '\x1b[?25' not in output.out


def test_only_the_first_process_draws(tmp_path, console, monkeypatch):
    monkeypatch.setattr(progress, 'is_main_process', lambda: False)
    runner = build_runner(tmp_path, [RichProgressHook(refresh=0, console=console)], iters=2)
    runner.train()
    release(runner)
    assert console.file.getvalue() == ''


def test_exception_in_training(tmp_path, console):
    class Crash(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 1:
                raise ZeroDivisionError

    hook = RichProgressHook(refresh=0, console=console)
    runner = build_runner(tmp_path, [hook, Crash()], iters=4)
    with pytest.raises(ZeroDivisionError):
        runner.train()
    hook.close()  # what is registered to happen at exit
    hook.close()
    release(runner)
    raw = console.file.getvalue()
    assert raw.rindex(SHOW_CURSOR) > raw.rindex(HIDE_CURSOR)


def test_only_validation(tmp_path, console):
    runner = build_runner(tmp_path, [RichProgressHook(refresh=0, console=console)], val_interval=2)
    runner.val()
    release(runner)
    assert re.search(r'val .*5/5', _text(console))


def test_remaining_time_follows_recent_iterations(tmp_path, console, monkeypatch):
    """The first 50 iterations take 1 s, then 10 s (more groups): the estimate goes with the latter."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, 'perf_counter', lambda: clock[0])

    class Work(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            clock[0] += 1000.0 if runner.iter == 0 else 1.0 if runner.iter < 50 else 10.0

        def before_val_iter(self, runner, batch_idx, data_batch=None):
            clock[0] += 500.0

    hook = RichProgressHook(window=10, refresh=0, console=console)
    checkpoint = dict(interval=1000, by_epoch=False, save_last=False)
    runner = build_runner(tmp_path, [Work(), hook], iters=100, val_interval=20, checkpoint=checkpoint)
    runner.train()
    release(runner)
    estimates = dict(
        re.findall(r'train \S+ +(\d+)/100 +[\d.]+ (?:s/it|it/s) +ETA ([^\r]*?\d:\d\d) loss', _text(console))
    )
    assert estimates['1'] == '1 day 3:30:00'  # 99 x 1000 s
    assert estimates['2'] == '1:38'  # the start-up is forgotten
    assert estimates['21'] == '1:19'  # validation does not count
    assert estimates['50'] == '0:50'
    assert estimates['60'] == '6:40'  # 40 x 10 s
    assert estimates['99'] == '0:10'


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [(0, '0:00'), (59.6, '1:00'), (3661, '1:01:01'), (90_000, '1 day 1:00:00'), (200_000, '2 days 7:33:20')],
)
def test_durations(seconds, text):
    assert format_seconds(seconds) == text


def test_forked_process_writes_to_the_original_stream(console):
    original = io.StringIO()
    stream = AboveBarStream(original, console)
    stream._process = os.getpid() + 1
    stream.write('from a worker\n')
    assert original.getvalue() == 'from a worker\n'
    assert console.file.getvalue() == ''


def test_bad_window():
    with pytest.raises(ValueError, match=r'RichProgressHook\.window must be an integer >= 1, but got 0'):
        RichProgressHook(window=0)


def test_losses_never_push_the_bar_out_of_a_narrow_terminal():
    parts = ['M 3', 'loss 8.47', 'semseg 2.55', 'depth 2.66']
    assert fitting(parts, 100) == 'M 3  loss 8.47  semseg 2.55  depth 2.66'
    for width in range(60):
        assert len(fitting(parts, width)) <= max(width, 0)
    assert fitting(parts, 18) == 'M 3  loss 8.47  …'
    assert fitting(parts, 3) == ''
