"""Look at what a dataset gives (``browse``): images with all targets as pictures, after the pipeline of the config."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from rich.progress import track

from mtl_plugins.config.loading import load_config
from mtl_plugins.config.places import enter_scope
from mtl_plugins.config.refusals import refusals_of
from mtl_plugins.datasets import AbsoluteSampler
from mtl_plugins.errors import UserError
from mtl_plugins.registry import DATASETS
from mtl_plugins.utils.files import note_of_others
from mtl_plugins.visualization import image_from_inputs, prediction_panel
from mtl_plugins.visualization.figure import save_image
from mtl_plugins.visualization.panels import image_title

from .parsers import command


def build_dataset(cfg: Config, split: str) -> Any:
    """The dataset of a split.

    Raises:
        ValueError: If the config has none.
    """
    loader = cfg.get(f'{split}_dataloader')
    if not loader:
        raise UserError(f'the config has no {split}_dataloader; choose another --split')
    enter_scope(cfg)
    with refusals_of(cfg):
        dataset = DATASETS.build(loader['dataset'])
        if hasattr(dataset, 'full_init'):
            dataset.full_init()
    return dataset


def draw_sheet(packed: dict[str, Any], meta: dict[str, Any]) -> np.ndarray:
    """One picture, RGB, of the image and every target of a packed sample, with its name and what the colours mean."""
    sample = packed['data_samples']
    tasks = sorted(key.removeprefix('gt_') for key in sample.keys() if key.startswith('gt_'))  # noqa: SIM118 - no mapping
    image = image_from_inputs(packed['inputs'])
    return prediction_panel(sample, tasks, image=image, meta=meta, title=image_title(sample))


@command
def main(parser: ArgumentParser, args: Namespace) -> int:
    """Draw; returns the exit code."""
    try:
        cfg = load_config(args.config, args.cfg_options, data_root=args.data_root)
        dataset = build_dataset(cfg, args.split)
    except (UserError, FileNotFoundError) as error:
        parser.error(' '.join(filter(None, (str(error), getattr(error, 'advice', '')))))
    out = Path(args.out or Path('work_dirs', 'browse', Path(args.config).stem, args.split))
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    # Positions from the start of the stream, so that random transforms show what training sees.
    seed = (cfg.get('randomness') or {}).get('seed') or 0
    sampler = AbsoluteSampler(dataset, shuffle=args.split == 'train', seed=seed)
    count = min(args.number, len(dataset))
    sheets = {
        save_image(draw_sheet(dataset[index], dataset.metainfo), out / f'{number:04d}_sample{int(index):06d}.png')
        for number, index in zip(track(range(count), 'Draw'), sampler)
    }
    note = note_of_others(out.glob('*.png'), sheets)
    if note:
        print(note, file=sys.stderr)
    print(f'{count} of {len(dataset)} samples of the {args.split} split are drawn in {out}')
    return 0
