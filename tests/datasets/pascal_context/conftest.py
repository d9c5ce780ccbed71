import shutil

import pytest
from exporters import export_pascal_context

SIZE = (72, 96)
COUNTS = {'train': 6, 'val': 3}


@pytest.fixture(scope='session')
def render_cache(tmp_path_factory):
    """Folder of the cache in which the rooms of all exports are rendered."""
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(scope='session')
def exported(tmp_path_factory, render_cache):
    """An exported dataset that no test changes."""
    folder = tmp_path_factory.mktemp('pascal') / 'PASCALContext'
    return export_pascal_context(folder, COUNTS, SIZE, cache_dir=render_cache)


@pytest.fixture
def copy(exported, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(exported, tmp_path / 'PASCALContext')
