"""Published tables, one JSON file each in the folder ``tables``."""

import json
from dataclasses import dataclass
from pathlib import Path

from mtl_plugins.errors import UserKeyError
from mtl_plugins.methods.naming import near_matches

FOLDER = Path(__file__).parent / 'tables'


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        name: Its heading.
        metric: The metric of ours that fills it, for example ``'depth/RMSE'``.
        higher_is_better: Direction of the metric.
    """

    name: str
    metric: str
    higher_is_better: bool

    @property
    def task(self) -> str:
        """Task of the metric."""
        return self.metric.split('/')[0]


@dataclass(frozen=True)
class PublishedRow:
    """A row of a table.

    Args:
        name: What the paper calls the method.
        values: One published value per column, None where the paper has none (or where it has none at all).
        method: Our key of the method; None if the method is not ours.
        single_task: Whether the row is made of one single-task model per column.
        delta_m: Published delta_m in percent.
        spread: Its published spread over runs.
        note: What else is to be said.
    """

    name: str
    values: tuple[float | None, ...] | None = None
    method: str | None = None
    single_task: bool = False
    delta_m: float | None = None
    spread: float | None = None
    note: str = ''

    @property
    def ours(self) -> bool:
        """Whether we can run it."""
        return self.single_task or self.method is not None


@dataclass(frozen=True)
class PublishedTable:
    """A table of a paper, see the arguments of :class:`Column` and :class:`PublishedRow`.

    Args:
        name: Key on the command line.
        title: What it is about.
        source: Where it was published.
        caution: In what our setting or metric differs from that of the paper.
        dataset: Folder of the configs.
        backbone: Part of the config names that stands for the backbone, for example ``'vit-large'``.
        settings: ``KEY=VALUE`` that the table needs beyond the configs, for example the split of its authors.
        columns: The columns, without delta_m.
        rows: The rows.
    """

    name: str
    title: str
    source: str
    caution: str
    dataset: str
    backbone: str
    columns: tuple[Column, ...]
    rows: tuple[PublishedRow, ...]
    settings: tuple[str, ...] = ()

    def row(self, name: str) -> PublishedRow:
        """The row called ``name``, or that of our method ``name``; upper and lower case do not matter.

        Raises:
            KeyError: If there is none; the message lists the near matches.
        """
        for row in self.rows:
            if name.lower() in (row.name.lower(), row.method):
                return row
        raise UserKeyError(
            f'table {self.name} has no row {name!r}: {near_matches(name, [row.name for row in self.rows])}'
        )


def list_tables() -> tuple[str, ...]:
    """Names of all tables."""
    return tuple(sorted(path.stem for path in FOLDER.glob('*.json')))


def load_table(name: str) -> PublishedTable:
    """Read the table ``name``.

    Raises:
        KeyError: If there is none; the message lists the near matches.
    """
    if name not in list_tables():
        raise UserKeyError(f'unknown table {name!r}: {near_matches(name, list_tables())}')
    content = json.loads((FOLDER / f'{name}.json').read_text(encoding='utf-8'))
    columns = tuple(Column(**column) for column in content.pop('columns'))
    rows = tuple(
        PublishedRow(**{**row, 'values': None if row['values'] is None else tuple(row['values'])})
        for row in content.pop('rows')
    )
    settings = tuple(content.pop('settings', ()))
    return PublishedTable(name=name, columns=columns, rows=rows, settings=settings, **content)
