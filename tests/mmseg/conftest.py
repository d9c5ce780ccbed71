import pytest


@pytest.fixture(autouse=True, scope='session')
def caches(tmp_path_factory):
    """One cache of rendered rooms for all tests of existing models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MTL_PLUGINS_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield
