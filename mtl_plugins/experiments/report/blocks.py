"""What a report consists of, before it is Markdown or HTML. In texts, `backticks` mark code and names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: What it says.
        sort: What it is sorted by; None: at the end.
        tint: From -1 (worse) to 1 (better), a shade behind the text.
        strong: Whether it is emphasised.
    """

    text: str
    sort: float | str | None = None
    tint: float = 0.0
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows.

    Args:
        caption: What it shows.
        columns: Headings.
        rows: Cells.
        words: Whether they hold words, which begin at the left, and not numbers.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: bool = False


@dataclass(frozen=True)
class Picture:
    """A figure.

    Args:
        name: Name of its file, without ending.
        alt: What it shows, for those who do not see it.
        figure: The figure.
    """

    name: str
    alt: str
    figure: Figure


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side, as many as fit."""

    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: Sequence[str]


Block = str | Table | Picture | Gallery | Bullets
"""A paragraph is a plain text."""


@dataclass(frozen=True)
class Section:
    """A part with a heading."""

    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


@dataclass(frozen=True)
class Document:
    """A report."""

    title: str
    sections: Sequence[Section]


def pictures_of(document: Document) -> list[Picture]:
    """All pictures, in order."""
    blocks = [block for section in document.sections for block in section.blocks]
    single = [[block] if isinstance(block, Picture) else list(getattr(block, 'pictures', ())) for block in blocks]
    return [picture for group in single for picture in group]
