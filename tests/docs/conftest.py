"""A folder for the code of a page, with what the pages take for granted."""

import shutil
import sys
import uuid

import pytest
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.registry import root as roots

import mtl_plugins.registry as registries
from mtl_plugins import task_specs
from mtl_plugins.cli import train
from mtl_plugins.config import load_config
from tests.support.tiny import ROOMS, shrink


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    """A folder with what pages call config.py, checkpoint.pth, photo.jpg and folder."""
    from skimage.data import astronaut
    from skimage.io import imsave
    from skimage.transform import resize

    folder = tmp_path_factory.mktemp('trained')
    cfg = shrink(load_config(ROOMS, work_dir=str(folder / 'run')))
    train.build_runner(cfg).train()
    shutil.copy(folder / 'run' / 'iter_2.pth', folder / 'checkpoint.pth')
    cfg.dump(folder / 'config.py')
    shutil.rmtree(folder / 'run')
    Config.fromfile(folder / 'config.py')
    photo = (resize(astronaut(), (96, 128)) * 255).astype('uint8')
    (folder / 'folder').mkdir()
    for name in ('photo.jpg', 'folder/one.jpg', 'folder/two.png'):
        imsave(folder / name, photo)
    return folder


@pytest.fixture
def clean_registries():
    """Nothing of projects/ is registered before a page runs, and what the page registers is forgotten afterwards."""
    nodes = [each for each in (*vars(registries).values(), *vars(roots).values()) if isinstance(each, Registry)]
    kept = [(node, dict(node.module_dict)) for node in nodes]
    specs, modules = dict(task_specs._SPECS), _modules_of_projects()
    built_in = {spec.key for spec in task_specs._BUILT_IN}
    for node, known in kept:
        _set(node.module_dict, {n: c for n, c in known.items() if not c.__module__.startswith('projects.')})
    _set(task_specs._SPECS, {key: spec for key, spec in specs.items() if key in built_in})
    for name in modules:
        del sys.modules[name]
    yield
    for node, known in kept:
        _set(node.module_dict, known)
    _set(task_specs._SPECS, specs)
    for name in _modules_of_projects():
        del sys.modules[name]
    sys.modules.update(modules)


def _modules_of_projects():
    return {name: module for name, module in sys.modules.items() if name.startswith('projects.')}


def _set(entries, wanted):
    entries.clear()
    entries.update(wanted)


@pytest.fixture
def working_folder(trained, tmp_path, monkeypatch):
    """Where the code of a page runs."""
    folder = tmp_path / f'page-{uuid.uuid4().hex[:8]}'
    shutil.copytree(trained, folder)
    monkeypatch.chdir(folder)
    return folder
