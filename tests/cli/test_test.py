import json
from types import SimpleNamespace

import pytest

from mtl_plugins.cli import test as evaluation
from tests.support.tiny import ROOMS, options, run_tool


def test_metrics_are_those_of_the_validation(trained, tmp_path):
    out, show = tmp_path / 'deep' / 'metrics.json', tmp_path / 'panels'
    arguments = ['--work-dir', tmp_path / 'run', '--out', out, '--show-dir', show, '--num-panels', 3]
    tiny = options(2, 'test_dataloader.dataset.split=val')
    done = run_tool('test.py', *tiny, ROOMS, trained / 'iter_2.pth', *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    (expected,) = json.loads((trained / 'metrics.json').read_text())
    assert {name: value or 0 for name, value in json.loads(out.read_text()).items()} == pytest.approx(
        {name: value or 0 for name, value in expected['metrics'].items()}, nan_ok=True
    )
    assert len(list(show.glob('*.png'))) == 3
    assert not (tmp_path / 'run' / 'metrics.json').exists()


def test_without_a_folder_no_picture_is_drawn(trained, tmp_path):
    arguments = [ROOMS, str(trained / 'iter_2.pth'), '--work-dir', str(tmp_path), *options()]
    assert evaluation.main(arguments) == 0
    assert not list(tmp_path.rglob('*.png'))


def test_what_is_no_number_is_null_in_the_file(tmp_path, monkeypatch):
    found = dict(a=1.5, b=float('nan'), c='text', d=[1.0, 2.0])
    monkeypatch.setattr(evaluation, 'build_runner', lambda cfg: SimpleNamespace(test=lambda: found))
    (tmp_path / 'x.pth').touch()
    out = tmp_path / 'out.json'
    assert evaluation.main([ROOMS, str(tmp_path / 'x.pth'), '--out', str(out), '--work-dir', str(tmp_path)]) == 0
    assert json.loads(out.read_text()) == dict(a=1.5, b=None, c=None, d=None)
    assert 'NaN' not in out.read_text()


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'checkpoint gone\.pth not found'):
        evaluation.main([ROOMS, 'gone.pth', '--work-dir', str(tmp_path)])
