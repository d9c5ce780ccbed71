"""A document as Markdown, in the dialect of GitHub."""

from __future__ import annotations

import html
from collections.abc import Sequence

from .blocks import Block, Bullets, Cell, Document, Gallery, Picture, Table


def to_markdown(document: Document, figures: str = 'figures') -> str:
    """The text; pictures are referred to as ``<figures>/<name>.png``."""
    parts = [f'# {document.title}']
    for section in document.sections:
        parts += [f'## {section.title}', *(_block(block, figures) for block in section.blocks)]
    return '\n\n'.join(parts) + '\n'


def _block(block: Block, figures: str) -> str:
    match block:
        case str():
            return block
        case Table():
            return _table(block)
        case Bullets():
            return '\n'.join(f'* {item}' for item in block.items)
        case Picture():
            return _picture(block, figures)
        case Gallery():
            return '\n'.join(_picture(picture, figures) for picture in block.pictures)


def _picture(picture: Picture, figures: str) -> str:
    # With its width, so that small ones stand side by side.
    width = round(picture.figure.get_size_inches()[0] * picture.figure.dpi)
    return f'<img src="{figures}/{picture.name}.png" width="{width}" alt="{html.escape(picture.alt)}">'


def _table(table: Table) -> str:
    lines = [_row(table.columns), _row(['---', *['---' if table.words else '---:'] * (len(table.columns) - 1)])]
    lines += [_row([_cell(cell) for cell in row]) for row in table.rows]
    return f'{table.caption}:\n\n' + '\n'.join(lines)


def _row(texts: Sequence[str]) -> str:
    return f'| {" | ".join(text if set(text) <= set("-:") else _escaped(text) for text in texts)} |'


def _escaped(text: str) -> str:
    return ' '.join(text.replace('|', '\\|').split())


def _cell(cell: Cell) -> str:
    return f'**{cell.text}**' if cell.strong else cell.text
