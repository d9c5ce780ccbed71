import pytest
from mmengine.config import Config

from mtl_plugins.cli.config import main
from tests.support.tiny import PHOTOS, ROOMS, run_tool


def test_as_a_user_runs_it(tmp_path):
    arguments = ['--cfg-options', 'max_iters=7', ROOMS, '--method', 'gd', '--save', 'out/config.py']
    done = run_tool('misc/print_config.py', *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    saved = Config.fromfile(tmp_path / 'out' / 'config.py')
    # What is printed is a config that can be read back.
    (tmp_path / 'printed.py').write_text(done.stdout)
    assert Config.fromfile(tmp_path / 'printed.py').to_dict() == saved.to_dict()
    assert saved.max_iters == 7
    assert saved.optim_wrapper.type == 'mtl_plugins.MultiTaskOptimWrapper'
    assert 'grouper' not in saved.optim_wrapper


def test_options(capsys):
    assert main([PHOTOS, '--data-root', 'my/photos', '--precision', 'fp16']) == 0
    text = capsys.readouterr().out
    assert text.count("root='my/photos'") == 3
    assert "precision='fp16'" in text


def test_unknown_kind_of_file(capsys):
    with pytest.raises(SystemExit):
        main([ROOMS, '--save', 'config.txt'])
    assert 'expected a file .py, .json or .yaml' in capsys.readouterr().err
