"""The documents and their code blocks. CONTRIBUTING.md states the rule for readers.

A comment right above a block tells what to do with it::

    <!-- docs: run -->                    a shell block is really run, with tiny settings
    <!-- docs: part of PATH -->           the block is a part of that file, which has tests of its own
    <!-- docs: file NAME -->              the block is written to that file, which later blocks use
    <!-- docs: not run: REASON -->        a Python block is only compiled, its types and arguments looked up
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in (*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md'), *(ROOT / 'projects').glob('*/README.md'))
    if '_build' not in path.parts
)
PYTHON, SHELL = ('python', 'py'), ('bash', 'sh', 'shell', 'console')
_BLOCK = re.compile(
    r'(?:^<!-- docs: (?P<mark>.*?) -->\n+)?^(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=fence)[ ]*$',
    flags=re.MULTILINE | re.DOTALL,
)
_INDENTED = re.compile(r'\n\n((?: {4}[^\n]*\n)+)')
_COMMAND = re.compile(r'^(?:[A-Z_]+=\S+ )*(?:python3?|pip|bash|make|mtl-plugins) \S')


@dataclass(frozen=True)
class Block:
    """A code block of a page: its language, the mark above it (``''`` without), the line it begins in, the code."""

    page: Path
    line: int
    language: str
    mark: str
    code: str

    @property
    def where(self) -> str:
        """For messages."""
        return f'{self.page.relative_to(ROOT)}:{self.line}'


def blocks_of(page: Path, languages=None) -> list[Block]:
    """The fenced blocks of a page, all or those in some languages."""
    text = page.read_text()
    found = [
        Block(
            page,
            text.count('\n', 0, match.start('code')),
            match['language'].strip(),
            match['mark'] or '',
            match['code'],
        )
        for match in _BLOCK.finditer(text)
    ]
    return [block for block in found if languages is None or block.language in languages]


def without_blocks(page: Path) -> str:
    """The text of a page without its fenced blocks."""
    return _BLOCK.sub('', page.read_text())


def shell_lines(code: str) -> list[str]:
    """The commands of a shell block: without comments and prompts, continued lines joined."""
    joined = code.replace('\\\n', ' ')
    lines = [re.sub(r'(?:^|\s)#.*$', '', line).strip().removeprefix('$ ') for line in joined.splitlines()]
    return [line for line in lines if line]


def commands_of(page: Path) -> list[tuple[str, str]]:
    """Every command of a page, with its place: from shell blocks, indented blocks, code in the text."""
    found = [(block.where, line) for block in blocks_of(page, SHELL) for line in shell_lines(block.code)]
    text = without_blocks(page)
    name = str(page.relative_to(ROOT))
    for match in _INDENTED.finditer(text):
        found += [(name, line) for line in shell_lines(match[1]) if _COMMAND.match(line)]
    for span in re.findall(r'(?<!`)`([^`]+)`(?!`)', text):
        span = ' '.join(span.split())
        if _COMMAND.match(span):
            found.append((name, span))
    return list(dict.fromkeys(found))
