"""Every example in a docstring gives what it says."""

import doctest
import importlib
import logging
from pathlib import Path

import mtl_plugins

PACKAGE = Path(mtl_plugins.__file__).parent


def test_examples_in_docstrings(tmp_path, monkeypatch):
    monkeypatch.setenv('MTL_PLUGINS_CACHE', str(tmp_path))
    finder, said = doctest.DocTestFinder(), []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    run = set()
    monkeypatch.setattr(logging.root.manager, 'disable', logging.WARNING)  # what is logged is no result
    for path in sorted(PACKAGE.rglob('*.py')):
        if '>>> ' in path.read_text():
            name = '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts)
            for example in finder.find(importlib.import_module(name.removesuffix('.__init__')), globs={}):
                runner.run(example, out=said.append)
                run.update([example.name] if example.examples else [])
    assert not runner.failures, ''.join(said)
    assert len(run) >= 15
