"""Settings for all tests."""

import signal

import pytest


@pytest.fixture(autouse=True, scope='session')
def ctrl_c_works():
    """A program started in the background of a script ignores SIGINT, and so would every process that tests start."""
    former = signal.getsignal(signal.SIGINT)
    if former == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)
