"""Settings for all tests."""

import atexit
import gc
import logging
import os
import signal
import sys
import uuid
from pathlib import Path

import pytest

gc.disable()  # until the tests are collected: nothing that is imported goes away


@pytest.fixture(autouse=True, scope='session')
def ctrl_c_works():
    """A program started in the background of a script ignores SIGINT, and so would every process that tests start."""
    former = signal.getsignal(signal.SIGINT)
    if former == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.fixture(autouse=True)
def no_closed_log():
    """MMEngine writes to the latest logger, which may be that of an earlier test, with a file that is closed."""
    module = sys.modules.get('mmengine.logging')
    if module is not None and module.MMLogger._instance_dict:
        handlers = module.MMLogger.get_current_instance().handlers
        if any(isinstance(handler, logging.FileHandler) and handler.stream is None for handler in handlers):
            module.MMLogger.get_instance(f'after-{uuid.uuid4().hex}')


@pytest.fixture(autouse=True)
def no_lock_left():
    """MMEngine keeps its lock if an instance cannot be made, and any other thread that logs would wait for ever."""
    yield
    module = sys.modules.get('mmengine.utils.manager')
    while module is not None and module._lock._is_owned():
        module._lock.release()


@pytest.fixture(autouse=True, scope='module')
def no_scope_left():
    """Names are looked up in the scope of the latest Runner, which may be that of an earlier file."""
    module = sys.modules.get('mmengine.registry')
    if module is not None:
        module.DefaultScope._instance_dict.clear()


def pytest_collection_finish():
    """Modules and tests stay; the many collections of garbage that MMEngine orders need not walk through them."""
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)


@pytest.fixture(autouse=True, scope='module')
def short_collections():
    """Nor through what MMEngine keeps of every run."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope='session')
def shorter_runs():
    if 'mmengine' not in sys.modules:
        return
    from .support import shortcuts

    shortcuts.take()


@pytest.fixture(autouse=True, scope='session')
def caches(tmp_path_factory):
    """One cache of rendered data for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MTL_PLUGINS_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    """Work dir of a run of two iterations."""
    from mtl_plugins.cli import train
    from tests.support.tiny import ROOMS, options

    folder = tmp_path_factory.mktemp('trained')
    assert train.main([ROOMS, '--work-dir', str(folder), *options()]) == 0
    return folder


@pytest.fixture(scope='session')
def real_data():
    """The folder of real images and trained weights that ``MTL_PLUGINS_DATA`` names; its README says what is there."""
    root = os.environ.get('MTL_PLUGINS_DATA')
    if not root:
        pytest.skip('MTL_PLUGINS_DATA names no folder with real data')
    return Path(root)
