import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.cli import train
from tests.support.tiny import ROOMS, options

_main = runpy.run_path(str(Path(__file__).parents[2] / 'tools/analysis/plot_conflicts.py'))['main']
WATCH = ['default_hooks.conflicts.type=mtl_plugins.GradientConflictHook', 'default_hooks.conflicts.interval=1']


@pytest.fixture(scope='module')
def watched(tmp_path_factory):
    """Work dir of a run with the hook, switched on as the help says."""
    folder = tmp_path_factory.mktemp('watched')
    assert train.main([ROOMS, '--work-dir', str(folder), *options(), '--cfg-options', *WATCH]) == 0
    return folder


def test_draws_a_real_run(watched, tmp_path, capsys):
    assert _main([str(watched)]) == 0
    assert _main([str(watched), '--depth', '1', '--out', str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert '2 measurements, iterations 0 to 1' in said
    for folder in (watched / 'conflict_figures', tmp_path):
        for name in ('cosines', 'layers', 'pairs'):
            path = folder / f'conflict_{name}.png'
            assert str(path) in said
            assert np.asarray(Image.open(path)).std() > 10


def test_errors_are_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        _main([str(tmp_path)])
    assert error.value.code == 2
    text = capsys.readouterr().err
    assert 'has no conflicts.jsonl' in text
    assert text.count('\n') == 1
