"""A document as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import re

import matplotlib

from .blocks import Block, Bullets, Cell, Document, Gallery, Picture, Section, Table
from .page_parts import SCRIPT, STYLE

_SMALL = 520
_MARKS = re.compile(r'`([^`]+)`|\*\*(.+?)\*\*')


def to_html(document: Document) -> str:
    """The page; style, script and pictures are within it."""
    title = html.escape(document.title)
    links = ' '.join(f'<a href="#{_anchor(s)}">{html.escape(s.title)}</a>' for s in document.sections)
    sections = '\n'.join(_section(section) for section in document.sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f'<style>{STYLE}</style>\n</head>\n<body>\n<header><h1>{title}</h1>\n<nav aria-label="Parts">{links}</nav>'
        f'</header>\n<main>\n{sections}\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n'
    )


def _section(section: Section) -> str:
    blocks = '\n'.join(_block(block) for block in section.blocks)
    return f'<section id="{_anchor(section)}"><h2>{html.escape(section.title)}</h2>\n{blocks}\n</section>'


def _block(block: Block) -> str:
    match block:
        case str():
            return f'<p>{_inline(block)}</p>'
        case Table():
            return _table(block)
        case Bullets():
            return '<ul>' + ''.join(f'<li>{_inline(item)}</li>' for item in block.items) + '</ul>'
        case Picture():
            return _picture(block)
        case Gallery():
            return '<div class="gallery">' + '\n'.join(_picture(picture) for picture in block.pictures) + '</div>'


def _picture(picture: Picture) -> str:
    width, height = (round(side * picture.figure.dpi) for side in picture.figure.get_size_inches())
    alt = html.escape(picture.alt)
    # Small ones may shrink with the screen, wide ones would become unreadable.
    fit = ' class="fit"' if width <= _SMALL else ''
    source = base64.b64encode(_svg(picture)).decode()
    # A label and a place in the tab order let the keyboard scroll what is wider than the screen.
    return (
        f'<figure tabindex="0" role="region" aria-label="Figure {html.escape(picture.name)}"><img{fit} width="{width}" '
        f'height="{height}" alt="{alt}" src="data:image/svg+xml;base64,{source}"></figure>'
    )


def _svg(picture: Picture) -> bytes:
    """The figure without date, random names or fonts."""
    settings = {
        'svg.fonttype': 'none',
        'svg.hashsalt': picture.name,
        'font.sans-serif': ['DejaVu Sans', 'Verdana', 'Arial', 'Helvetica', 'sans-serif'],
    }
    stream = io.BytesIO()
    with matplotlib.rc_context(settings):
        nothing = dict.fromkeys(('Date', 'Creator', 'Format', 'Type'))
        picture.figure.savefig(stream, format='svg', metadata=nothing)
    return stream.getvalue()


def _table(table: Table) -> str:
    heads = ''.join(
        f'<th scope="col" aria-sort="none"><button type="button">{_inline(column)}</button></th>'
        for column in table.columns
    )
    rows = '\n'.join(f'<tr>{"".join(_cell(cell, i) for i, cell in enumerate(row))}</tr>' for row in table.rows)
    caption = _inline(table.caption)
    label = html.escape(table.caption)
    kind = ' class="words"' if table.words else ''
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{label}"><table{kind}>'
        f'<caption><span>{caption}</span></caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'
    )


def _cell(cell: Cell, column: int) -> str:
    text = _inline(cell.text)
    text = f'<strong>{text}</strong>' if cell.strong else text
    sort = '' if cell.sort is None else f' data-sort="{html.escape(str(cell.sort))}"'
    if column == 0:
        return f'<th scope="row"{sort}>{text}</th>'
    shade = '' if abs(cell.tint) < 0.02 else f' class="{"up" if cell.tint > 0 else "down"}"'
    shade += f' style="--tint:{abs(cell.tint):.2f}"' if shade else ''
    return f'<td{sort}{shade}>{text}</td>'


def _inline(text: str) -> str:
    """Escape, and turn the marks into tags."""
    parts, end = [], 0
    for match in _MARKS.finditer(text):
        parts.append(html.escape(text[end : match.start()]))
        code, bold = match.groups()
        parts.append(f'<code>{html.escape(code)}</code>' if code else f'<strong>{html.escape(bold)}</strong>')
        end = match.end()
    return ''.join([*parts, html.escape(text[end:])])


def _anchor(section: Section) -> str:
    return re.sub(r'[^a-z0-9]+', '-', section.title.lower()).strip('-')
