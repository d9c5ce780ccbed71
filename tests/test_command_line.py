"""``python -m mtl_plugins`` and the files in ``tools/``."""

import ast

import pytest

from mtl_plugins.__main__ import COMMANDS, run
from tests.tools.tiny import ROOT


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stop:
        run(name, ['--help'])
    assert stop.value.code == 0
    assert 'usage: ' in capsys.readouterr().out


def test_every_tool_of_a_command_names_one_that_exists():
    named = {}
    for path in sorted((ROOT / 'tools').rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'run':
                named[path.name] = node.args[0].value
    assert set(named.values()) <= set(COMMANDS)
    assert {'train.py', 'test.py', 'infer.py', 'export.py', 'doctor.py', 'browse.py'} <= set(named)
