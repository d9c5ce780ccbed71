"""Small stand-ins for the real datasets: rendered rooms in their layouts, exported once per cache."""

from __future__ import annotations

import sys
from pathlib import Path

from mtl_plugins.datasets.cache import default_cache_dir

sys.path.append(str(Path(__file__).parents[2] / 'tools' / 'datasets'))  # for processes that tests start

from exporters import EXPORTERS

SIZES = {'nyud': (60, 80), 'pascal_context': (60, 80), 'taskonomy': (64, 64), 'mmseg': (64, 64)}
TYPES = {
    'mtl_plugins.NYUDv2Dataset': 'nyud',
    'mtl_plugins.PascalContextMTDataset': 'pascal_context',
    'mtl_plugins.TaskonomyDataset': 'taskonomy',
}


def stand_in(name: str) -> Path:
    """Folder of the stand-in of a dataset, two images or more per split."""
    folder = default_cache_dir() / 'stand_ins-3' / name  # the number: of what the exporters write
    if not (folder / 'fixture.json').is_file() or not (folder.parent / f'{name}.done').is_file():
        EXPORTERS[name](folder, size=SIZES[name])
        (folder.parent / f'{name}.done').touch()
    return folder
