"""``tools/datasets/verify.py`` as a user runs it, on a dataset of the smallest kind."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from mtl_plugins.cli import verify as cli
from tests.datasets.verification.tiny import LOCATION, make_tiny
from tests.support.programs import Program

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path):
    return make_tiny(tmp_path / 'data')


@pytest.fixture
def manifest(tmp_path):
    return tmp_path / 'manifest.json'


@pytest.fixture
def run(data, manifest, capsys):
    def call(*options, code):
        assert cli.main([LOCATION, str(data), '--manifest', str(manifest), *options]) == code
        return capsys.readouterr().out

    return call


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob('*')}


def test_a_sound_folder_is_clean_again_and_again_and_untouched(run, data, manifest):
    before = snapshot(data)
    first = run(code=0)
    assert '10 files noted' in first
    written = manifest.read_bytes()
    second = run('--jobs', '2', code=0)
    assert '10 of 10 files are as noted' in second
    assert first.splitlines()[-1] == second.splitlines()[-1]
    assert second.splitlines()[-1].startswith('clean')
    assert manifest.read_bytes() == written
    assert snapshot(data) == before


def test_later_runs_name_changed_gone_and_new_files(run, data, manifest):
    run(code=0)
    (data / 'images/000.png').write_bytes((data / 'images/001.png').read_bytes())
    (data / 'list.txt').write_text('000\n001\n003\n')
    for kind, end in (('images', 'png'), ('semseg', 'png'), ('depth', 'npy')):
        (data / f'{kind}/002.{end}').rename(data / f'{kind}/003.{end}')
    for _ in range(2):
        text = run(code=1)
        assert 'changed file (2)\n  images/000.png' in text
        assert 'gone file (3)\n  depth/002.npy' in text
    assert 'noted in' in run('--update-manifest', code=0)
    assert 'clean' in run(code=0)


def test_new_files_are_told_once_and_join_the_manifest(run, data, manifest):
    (data / 'list.txt').write_text('000\n001\n')
    run('--update-manifest', code=0)
    (data / 'list.txt').write_text('000\n001\n002\n')
    assert '3 files are new since the last time: depth/002.npy, ' in run(code=1)
    assert 'new since' not in run(code=1)
    assert 'images/002.png' in manifest.read_text()


def test_damaged_files_do_not_enter_the_manifest(run, data, manifest):
    sound = (data / 'depth/001.npy').read_bytes()
    (data / 'depth/001.npy').write_bytes(sound[:-9])
    text = run(code=1)
    assert 'unreadable file (1)\n  depth/001.npy: ' in text
    assert 'depth/001.npy' not in manifest.read_text()
    (data / 'depth/001.npy').write_bytes(sound)
    run(code=0)
    (data / 'depth/001.npy').write_bytes(sound[:-9])
    text = run(code=1)
    assert 'changed' not in text  # it is named once, with the cause


def test_the_report_as_json(run, data, tmp_path):
    (data / 'semseg/000.png').unlink()
    run('--json', str(tmp_path / 'report.json'), code=1)
    content = json.loads((tmp_path / 'report.json').read_text())
    assert [(item['path'], item['kind']) for item in content['problems']] == [('semseg/000.png', 'missing file')]
    assert content['clean'] is False
    with pytest.raises(SystemExit):
        run('--json', str(tmp_path / 'no/such/folder.json'), code=2)


def test_quick_opens_no_file(data, capsys):
    (data / 'semseg/000.png').write_bytes(b'')
    assert cli.main([LOCATION, str(data), '--quick']) == 0
    assert 'was not checked' in capsys.readouterr().out
    (data / 'semseg/000.png').unlink()
    assert cli.main([LOCATION, str(data), '--quick']) == 1
    assert 'semseg/000.png' in capsys.readouterr().out


def test_without_hashes_there_is_no_manifest(data, tmp_path, monkeypatch):
    monkeypatch.setenv('MTL_PLUGINS_CACHE', str(tmp_path / 'cache'))
    assert cli.main([LOCATION, str(data), '--no-hash']) == 0
    assert not (tmp_path / 'cache').exists()
    assert cli.main([LOCATION, str(data)]) == 0
    assert len(list((tmp_path / 'cache/manifests').iterdir())) == 1


def test_another_folder_is_named(run, data):
    (data / 'list.txt').unlink()
    text = run(code=1)
    assert 'wrong folder (1)' in text
    assert 'holds no list.txt' in text


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nyudd', '.'], 'did you mean nyud'),
        (['nowhere:Check', '.'], 'nowhere'),
        ([LOCATION, 'no/such/folder'], 'no/such/folder'),
        ([LOCATION, '.', '--jobs', '0'], '--jobs'),
        ([LOCATION, '.', '--no-hash', '--update-manifest'], '--no-hash'),
    ],
)
def test_wrong_usage_is_said(arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_a_manifest_that_cannot_be_used_ends_the_run_before_the_work(run, data, manifest, capsys):
    manifest.write_text('{')
    run(code=2)
    (data / 'file').touch()
    assert cli.main([LOCATION, str(data), '--manifest', str(data / 'file/m.json')]) == 2
    assert 'choose another file by --manifest' in capsys.readouterr().err


def launch(*arguments, **env):
    return Program(ROOT / 'tools/datasets/verify.py', *arguments, env=env, new_session=True)


def test_the_command_without_a_terminal_shows_no_bar(data, manifest):
    with launch(LOCATION, data, '--manifest', manifest) as program:
        assert (program.wait(120), program.stderr) == (0, '')
        assert program.stdout.splitlines()[-1].startswith('clean')


@pytest.mark.parametrize('jobs', [1, 2])
def test_ctrl_c_leaves_no_manifest_and_no_process(tmp_path, manifest, jobs):
    data = make_tiny(tmp_path / 'data', 140)
    started = tmp_path / 'started'
    started.mkdir()
    slow = LOCATION.replace('TinyCheck', 'SlowCheck')
    command = [slow, data, '--manifest', manifest, '--jobs', jobs]
    with launch(*command, TINY_STARTED=str(started)) as program:
        deadline = time.monotonic() + 60
        while len(list(started.iterdir())) < jobs and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(program.pid, signal.SIGINT)  # a terminal sends it to the workers as well
        assert program.wait(60) == 130
        assert 'Traceback' not in program.stderr
        assert 'interrupted' in program.stderr
        assert 'clean' not in program.stdout
    assert not manifest.exists()
    assert list(manifest.parent.glob('.manifest*')) == []
    for worker in started.iterdir():
        assert not Path('/proc', worker.name).exists() or Path('/proc', worker.name, 'cmdline').read_bytes() == b''
