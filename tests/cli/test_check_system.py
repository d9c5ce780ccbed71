import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / 'tools' / 'misc' / 'check_system.py'


@pytest.fixture(scope='module')
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize(
    ('version', 'suitable'), [((3, 10), False), ((3, 11), True), ((3, 12), True), ((3, 13), False)]
)
def test_the_range_of_pythons(script, version, suitable):
    problem = script['python_problem'](version)
    assert (problem is None) == suitable
    if not suitable:
        assert 'needs Python 3.11 to 3.12, but ' in problem
        assert 'is Python {}.{}.'.format(*version) in problem


def test_one_message_names_the_missing_libraries_and_the_packages(script):
    problem = script['library_problem']('linux', ('libno-such-1.so', 'libno-such-2.so'))
    assert 'libno-such-1.so and libno-such-2.so' in problem
    assert 'apt-get install libgl1 libglib2.0-0' in problem
    assert 'dnf install mesa-libGL glib2' in problem
    assert script['library_problem']('darwin', ('libno-such-1.so',)) is None


def test_this_machine_passes(capsys):
    with pytest.raises(SystemExit, match='0'):
        runpy.run_path(str(SCRIPT), run_name='__main__')
    assert capsys.readouterr().err == ''


def test_the_makefile_accepts_the_same_pythons(script):
    makefile = (SCRIPT.parents[2] / 'Makefile').read_text()
    oldest, newest = script['PYTHON']
    assert f'{oldest} <= sys.version_info[:2] <= {newest}' in makefile
    assert oldest <= sys.version_info[:2] <= newest
