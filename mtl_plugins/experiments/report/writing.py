"""Writing all files of a report."""

from __future__ import annotations

import os
from pathlib import Path

from mtl_plugins.runtime.checkpoints import write_atomically
from mtl_plugins.visualization import save_figure

from .blocks import pictures_of
from .comparison import Comparison
from .csv_files import runs_csv, summary_csv
from .document import build_document
from .markdown import to_markdown
from .page import to_html


def write_report(comparison: Comparison, folder: str | os.PathLike) -> Path:
    """Write ``report.html``, ``report.md`` with ``figures/*.png``, ``runs.csv`` and ``summary.csv``.

    Files of these names are replaced, others in the folder stay.

    Returns:
        The HTML page.
    """
    folder = Path(folder)
    document = build_document(comparison)
    for picture in pictures_of(document):
        save_figure(picture.figure, folder / 'figures' / f'{picture.name}.png')
    files = {
        'report.md': to_markdown(document),
        'runs.csv': runs_csv(comparison),
        'summary.csv': summary_csv(comparison),
        'report.html': to_html(document),
    }
    for name, text in files.items():
        write_atomically(text.encode(), folder / name)
    return folder / 'report.html'
