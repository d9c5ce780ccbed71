"""Both sides of the loading benchmark per dataset: our training dataset, and the stock pipeline on its files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tools' / 'datasets'))
from exporters import export_nyud, export_pascal_context, export_taskonomy

from mtl_plugins.datasets.samplers import SamplePosition
from mtl_plugins.datasets.transforms.seeded import seeded_rng
from mtl_plugins.registry import DATASETS

from .stock_pipelines import StockDataset, stock_pipeline

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / '_base_' / 'datasets'


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from.

    Attributes:
        config: Its file under configs/_base_/datasets, whose training pipeline is measured.
        export: Writes the rendered stand-in; None if the dataset renders itself.
        size: Height and width of the stand-in's images.
        title: For people.
    """

    config: str
    export: Callable[..., Path] | None
    size: tuple[int, int]
    title: str


SOURCES = {
    'nyud': Source('nyud-448x576.py', export_nyud, (425, 560), 'NYUD-v2, 425 x 560 to 448 x 576, 4 tasks'),
    'pascal_context': Source(
        'pascal-context-512x512.py',
        export_pascal_context,
        (375, 500),
        'PASCAL-Context, 375 x 500 to 512 x 512, 5 tasks',
    ),
    'taskonomy': Source('taskonomy-256x256.py', export_taskonomy, (512, 512), 'Taskonomy, 512 x 512 to 256, 11 tasks'),
    'rooms': Source('rooms-96.py', None, (96, 96), 'Rooms, 96 x 96, 5 tasks'),
}


def fixture(name: str, folder: Path, count: int) -> Path | None:
    """The stand-in of a dataset with ``count`` images to train on, exported if it is not there yet."""
    source = SOURCES[name]
    if source.export is None:
        return None
    root = folder / f'{name}-{count}'
    counts = {'train': count, 'val': 1}
    return source.export(root, counts, source.size, cache_dir=folder / 'cache')


def our_dataset(name: str, root: Path | None, folder: Path, count: int, repeats: int = 1) -> BaseDataset:
    """Our training dataset as the config has it.

    Args:
        name: Key of :data:`SOURCES`.
        root: Folder of the data; None for what renders itself.
        folder: Folder of the caches.
        count: Images, for what renders itself.
        repeats: List the images this many times, as samples of their own: for a long epoch of few files.
    """
    cfg = Config.fromfile(CONFIGS / SOURCES[name].config).train_dataloader.dataset.to_dict()
    cfg['cache_dir'] = str(folder / 'cache')
    if root is None:
        cfg['num_images'] = count
    else:
        cfg['data_root'] = str(root)
    kind = DATASETS.get(cfg.pop('type'))
    return (kind if repeats == 1 else _repeated(kind, repeats))(**cfg)


def _repeated(kind: type[BaseDataset], repeats: int) -> type[BaseDataset]:
    class Repeated(kind):
        def load_data_list(self) -> list[dict[str, Any]]:
            return [dict(sample) for _ in range(repeats) for sample in super(Repeated, self).load_data_list()]

    return Repeated


def stock_dataset(name: str, ours: BaseDataset) -> StockDataset:
    """The stock pipeline on the files of ``ours``."""
    samples = []
    for index in range(len(ours)):
        info = ours.get_data_info(index)
        sample = {key: info[key] for key in ('img_path', 'sample_id', 'tasks') if key in info}
        sample['files'] = dict(info.get('files', {}))
        sample['cache_path'] = info['img_path']
        samples.append(sample)
    load, augment, finish = stock_pipeline(name)
    return StockDataset(samples, [*load, *augment, *finish])


@contextmanager
def same_draws(position: int) -> Iterator[None]:
    """The random numbers that ``SeededTransforms`` draws from at a position of the training stream."""
    with seeded_rng(0, position):
        yield


def position_of(index: int, position: int) -> SamplePosition:
    """The index that our sampler hands to the dataset."""
    return SamplePosition(index, position)


def default_folder() -> Path:
    """Where stand-ins and caches of the benchmark are kept."""
    base = os.environ.get('MTL_PLUGINS_CACHE') or '~/.cache/mtl_plugins'
    return Path(base).expanduser() / 'benchmarks' / 'dataloading'


def roots_of(options: list[str]) -> Mapping[str, Path]:
    """Read ``NAME=FOLDER`` options.

    Raises:
        ValueError: If one names no dataset that has files.
    """
    roots = {}
    for option in options:
        name, _, folder = option.partition('=')
        if name not in SOURCES or SOURCES[name].export is None or not folder:
            known = ', '.join(key for key, source in SOURCES.items() if source.export)
            raise ValueError(f'--data-root must be NAME=FOLDER with NAME one of {known}, but got {option!r}')
        roots[name] = Path(folder)
    return roots
