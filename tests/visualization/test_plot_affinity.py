import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.programs import run

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis' / 'plot_affinity.py'
TASKS = ['semseg', 'depth', 'normals']


def _main(*arguments):
    spec = importlib.util.spec_from_file_location('plot_affinity', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(argument) for argument in arguments])


def _run(*arguments):
    return run(TOOL, *arguments)


@pytest.fixture
def work_dir(tmp_path):
    rng = np.random.default_rng(0)
    log = tmp_path / 'run' / '20260101_000000' / 'affinity.jsonl'
    log.parent.mkdir(parents=True)
    with log.open('w') as file:
        for iteration in range(10, 210, 10):
            groups = [[task] for task in TASKS] if iteration < 100 else [TASKS]
            entry = dict(iter=iteration, tasks=TASKS, affinity=rng.normal(0, 1e-3, (3, 3)).tolist(), groups=groups)
            file.write(json.dumps({**entry, 'num_groups': len(groups)}) + '\n')
        file.write('{"iter": 210, "tasks"')
    return tmp_path / 'run'


def test_draws_all_figures(work_dir, tmp_path):
    result = _run(work_dir, '--iter', 44, '--pairs', 'semseg:depth,depth:normals', '--out', tmp_path / 'figures')
    assert result.returncode == 0, result.stderr
    assert 'iteration 44 is not in the log; the heat map shows 40' in result.stdout
    assert '20 entries, iterations 10 to 200' in result.stdout
    for name in ('affinity', 'affinity_curves', 'affinity_panels', 'groups'):
        path = tmp_path / 'figures' / f'{name}.png'
        assert str(path) in result.stdout
        assert np.asarray(Image.open(path)).std() > 15


def test_a_log_file_is_a_source_too(work_dir):
    log = next(work_dir.glob('*/affinity.jsonl'))
    assert _main(log) == 0
    assert len(list((log.parent / 'affinity_figures').glob('*.png'))) == 4


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nowhere'], 'no file or folder nowhere'),
        (['{work_dir}', '--pairs', 'semseg'], '--pairs takes FROM:TO'),
        (['{work_dir}', '--pairs', 'semseg:sal'], 'pairs name sal, but the tasks are semseg, depth, normals'),
    ],
)
def test_errors_are_one_line(work_dir, capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        _main(*(argument.format(work_dir=work_dir) for argument in arguments))
    assert error.value.code == 2
    text = capsys.readouterr().err
    assert message in text
    assert text.count('\n') == 1
