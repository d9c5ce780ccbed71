import pytest

from mtl_plugins.cli import train

from .tiny import ROOMS, options


@pytest.fixture(autouse=True, scope='session')
def caches(tmp_path_factory):
    """One cache of rendered data for all tests of tools."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MTL_PLUGINS_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    """Work dir of a run of two iterations."""
    folder = tmp_path_factory.mktemp('trained')
    assert train.main([ROOMS, '--work-dir', str(folder), *options()]) == 0
    return folder
