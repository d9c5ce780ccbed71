"""``tools/datasets/export_rooms.py`` as a user runs it."""

import json
from pathlib import Path

import pytest

from mtl_plugins.cli.verify import main as verify
from tests.support.tiny import run_tool

ROOT = Path(__file__).parents[2]
SMALL = ['--size', '48', '64', '--train', '2', '--val', '1']


@pytest.fixture
def main(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools/datasets'))
    import export_rooms

    return export_rooms.main


@pytest.mark.parametrize(
    ('dataset', 'options'),
    [
        ('nyud', ['--packaging', 'astmt']),
        ('pascal_context', []),
        ('taskonomy', ['--test', '2', '--packaging', 'domain']),
    ],
)
def test_what_is_exported_is_clean(dataset, options, main, tmp_path, capsys):
    out = tmp_path / 'out'
    assert main([dataset, str(out), *SMALL, *options]) == 0
    told = capsys.readouterr().out
    assert f'verify.py {dataset} {out}' in told
    assert '(train 2, val 1' in told
    marker = json.loads((out / 'fixture.json').read_text())
    assert (marker['dataset'], marker['size']) == (dataset, [48, 64])
    assert marker['counts'] == {'train': 2, 'val': 1} | ({'test': 2} if dataset == 'taskonomy' else {})
    assert verify([dataset, str(out), '--no-hash', '--jobs', '1']) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith('clean')


def test_the_command_itself(tmp_path):
    done = run_tool('datasets/export_rooms.py', 'nyud', tmp_path / 'out', *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'nyud is written to' in done.stdout


def test_a_folder_with_other_files_is_refused_and_left_alone(main, tmp_path, capsys):
    (tmp_path / 'thesis.tex').write_text('x')
    assert main(['nyud', str(tmp_path), *SMALL]) == 2
    assert 'not empty' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['cityscapes', 'x'], 'cityscapes'),
        (['nyud', 'x', '--packaging', 'zip'], 'atrc, mtlp, astmt'),
        (['pascal_context', 'x', '--packaging', 'zip'], 'has only one'),
        (['nyud', 'x', '--test', '3'], 'no test split'),
        (['nyud', 'x', '--size', '48'], '--size'),
    ],
)
def test_wrong_usage_is_said(main, arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_number_that_makes_no_sense_is_named(main, tmp_path, capsys):
    assert main(['nyud', str(tmp_path / 'a'), '--train', '0']) == 2
    assert "'train'" in capsys.readouterr().err
    assert main(['taskonomy', str(tmp_path / 'b'), '--size', '4', '4']) == 2
    assert 'size' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
