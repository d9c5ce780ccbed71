import shutil

import pytest
from exporters import export_taskonomy

SIZE = (48, 64)


@pytest.fixture(scope='session')
def cache(tmp_path_factory):
    """Cache of rendered rooms and of indices, shared by all tests."""
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(scope='session')
def exported(tmp_path_factory, cache):
    """A stand-in of 4, 2 and 2 images; not to be changed."""
    return export_taskonomy(tmp_path_factory.mktemp('data') / 'taskonomy', size=SIZE, cache_dir=cache)


@pytest.fixture
def root(exported, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(exported, tmp_path / 'taskonomy')
