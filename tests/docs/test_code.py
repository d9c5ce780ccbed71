"""Every Python block of the documents runs, and the shell blocks that are marked so."""

import re

import pytest

from .config_types import problem_of, written_in
from .pages import PAGES, PYTHON, ROOT, SHELL, Block, blocks_of
from .running import Page, check_config, run_page

WITH_CODE = [
    page for page in PAGES if blocks_of(page, PYTHON) or any(block.mark == 'run' for block in blocks_of(page, SHELL))
]


@pytest.mark.parametrize('page', WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page, working_folder, clean_registries):
    run_page(blocks_of(page, PYTHON + SHELL), working_folder)


def test_marks_are_known_and_stand_above_a_block():
    for page in PAGES:
        text = page.read_text()
        blocks = blocks_of(page)
        marks = re.findall(r'^<!-- docs: ', text, flags=re.MULTILINE)
        assert len(marks) == sum(bool(block.mark) for block in blocks), page
        for block in blocks:
            known = block.mark in ('', 'run') or block.mark.startswith(('part of ', 'not run: ', 'file '))
            assert known, f'{block.where}: {block.mark}'


def block(code, mark='', language='python'):
    return Block(ROOT / 'README.md', 1, language, mark, code)


@pytest.mark.parametrize(
    ('code', 'mark', 'error'),
    [
        ('x = 1 / 0', '', ZeroDivisionError),
        ('x = (', '', SyntaxError),
        ("x = dict(type='mtl_plugins.NoSuchThing')", '', AssertionError),
        ("x = dict(type='mtl_plugins.MultiTaskOptimWrapper', no_such_argument=1)", 'not run: slow', AssertionError),
        ("_base_ = [...]\noptim_wrapper = dict(type='NoSuchThing')", '', AssertionError),
        ('_base_ = ["./no_such_config.py"]', '', Exception),
        ('not in the file', 'part of tools/train.py', SyntaxError),
        ('no_such_code = 1', 'part of tools/train.py', AssertionError),
    ],
)
def test_what_is_wrong_is_found(code, mark, error, tmp_path):
    with pytest.raises(error):
        Page(tmp_path).run(block(code, mark))


def test_what_is_marked_is_not_run(tmp_path):
    Page(tmp_path).run(block('x = 1 / 0', 'not run: minutes'))


def test_blocks_of_a_page_share_their_names(tmp_path):
    page = Page(tmp_path)
    page.run(block('x = 1'))
    page.run(block('assert x == 1'))


def test_a_config_is_loaded_with_its_bases(tmp_path):
    check_config("_base_ = [...]\noptim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper')", tmp_path)


def test_arguments_that_a_class_hands_on_are_known():
    (cfg,) = written_in("dict(type='mtl_plugins.RoomsDataset', split='val', indices=4)")
    assert problem_of(cfg) is None
    (cfg,) = written_in("dict(type='mtl_plugins.EdgeMetric', task='edge', prefix='x', colour=1)")
    assert 'takes no colour' in problem_of(cfg)
