"""Every command in the documents: the program is there, it takes these options, the paths exist."""

import pytest

from .commands import check
from .pages import PAGES, ROOT, SHELL, blocks_of, commands_of, shell_lines

WITH_COMMANDS = [page for page in PAGES if commands_of(page)]


@pytest.mark.parametrize('page', WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_would_work(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    wrong = []
    for where, line in commands_of(page):
        try:
            check(line)
        except AssertionError as error:
            wrong.append(f'{where}: {line}\n    {str(error).splitlines()[0]}')
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize(
    ('line', 'reason'),
    [
        ('python tools/no_such_tool.py', 'does not exist'),
        ('python tools/train.py configs/rooms/no_such_config.py', 'does not exist'),
        ('python tools/train.py CONFIG --no-such-option', 'options are refused'),
        ('python tools/train.py CONFIG --precision fp8', 'options are refused'),
        ('bash tools/dist_train.sh CONFIG 2 --no-such-option', 'options are refused'),
        ('python -m mtl_plugins no_such_command', 'no such command'),
        ('make no-such-target', 'no such target'),
        ('pip install -e ".[no_such_extra]"', 'the extras are'),
        ('no_such_program', 'is not known'),
        ('cd . && make no-such-target', 'no such target'),
        (
            'python tools/train.py configs/rooms/gd_vit-micro_8b-2k_rooms-96.py --cfg-options no_such.key=1',
            'has no no_such.key',
        ),
    ],
)
def test_what_would_not_work_is_found(line, reason, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(AssertionError, match=reason):
        check(line)


def test_comments_prompts_and_continued_lines():
    assert shell_lines('$ a b \\\n  c  # d\n# e\nf --x="#1"\n') == ['a b    c', 'f --x="#1"']


def test_shell_blocks_are_told_to_be_so():
    """A command in a block without language would be looked at by nobody."""
    for page in PAGES:
        for block in blocks_of(page, ('',)):
            assert not block.code.lstrip('$ ').startswith(('python ', 'bash ', 'pip ', 'make ')), block.where
    assert {block.mark for page in PAGES for block in blocks_of(page, SHELL)} <= {'', 'run'}
