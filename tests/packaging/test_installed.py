"""The wheel, installed where nothing of the checkout can be seen, started in an empty folder."""

import json
import os
import subprocess

import pytest

from tests.support.tiny import options

pytestmark = pytest.mark.slow

NAME = 'mtl_plugins::rooms/stgu_vit-micro_8b-2k_rooms-96.py'
PROJECT = """
_base_ = 'mtl_plugins::rooms/stgu_vit-micro_8b-2k_rooms-96.py'
train_cfg = dict(max_iters=3)
"""


@pytest.fixture(scope='module')
def run(installed, tmp_path_factory):
    """Run a command of the environment in an empty folder, which all tests here share."""
    folder = tmp_path_factory.mktemp('empty')
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    environment |= {'OMP_NUM_THREADS': '1', 'MTL_PLUGINS_CACHE': str(tmp_path_factory.mktemp('cache'))}

    def start(command, *args):
        line = [str(installed.bin / command), *map(str, args)]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done.stdout

    start.folder = folder
    return start


def test_the_package_is_the_installed_one(run, installed):
    assert run('python', '-c', 'import mtl_plugins; print(mtl_plugins.__path__[0])').strip() == str(
        installed.packages / 'mtl_plugins'
    )


def test_trains_resumes_and_evaluates_by_name(run):
    work_dir = run.folder / 'work_dirs' / 'stgu_vit-micro_8b-2k_rooms-96'
    run('python', '-m', 'mtl_plugins', 'train', NAME, *options(2))
    run('mtl-plugins', 'train', NAME, '--resume', *options(4))
    iterations = [entry['iter'] for entry in json.loads((work_dir / 'metrics.json').read_text())]
    assert iterations == [2, 4]
    out = run('mtl-plugins', 'test', NAME, work_dir / 'iter_4.pth', *options(4))
    assert 'Semantic segmentation' in out
    assert {path.name for path in run.folder.iterdir()} == {'work_dirs'}


def test_a_config_of_another_project_inherits_from_ours(run):
    (run.folder / 'project.py').write_text(PROJECT)
    assert 'max_iters=3' in run('mtl-plugins', 'config', 'project.py')
    code = f'from mmengine.hub import get_config; import mtl_plugins; print(get_config({NAME!r}).optim_wrapper.type)'
    assert run('python', '-c', code).strip() == 'mtl_plugins.SelectiveTaskGroupOptimWrapper'
    (run.folder / 'project.py').unlink()
