"""How many images per second a data loader worker delivers, beside the same pipeline of stock transforms.

For each dataset the training pipeline of its config (configs/_base_/datasets) runs in one process on rendered images
of the real size, and so does the pipeline assembled from mmcv's and mmseg's own transforms (stock_pipelines.py says
where these do less). Rounds alternate; both sides load the same images and draw the same random numbers. The clock is
the CPU time of the process, with one thread: what one worker on one core can do, however busy the machine is.

Afterwards two epochs are loaded by worker processes whose memory is watched: it must not grow.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

if __package__ in (None, ''):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import torch
from mmengine.dataset import BaseDataset
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.loading_setups import (
    SOURCES,
    default_folder,
    fixture,
    our_dataset,
    position_of,
    roots_of,
    same_draws,
    stock_dataset,
)
from benchmarks.worker_memory import Growth, measure_growth
from mtl_plugins.experiments.measuring.timing import Spread

MEMORY_LIMIT = 0.02
"""Largest growth of a worker's memory from the first to the second epoch."""


@dataclass(frozen=True)
class Row:
    """Figures of one dataset.

    Attributes:
        name: Its key.
        images: Different images.
        ours: Images per second of our pipeline.
        stock: Images per second of the stock pipeline.
        ratio: Ours in units of stock, per round.
        steps: Milliseconds per image of each of our transforms, in a run of its own.
        stock_steps: The same for the stock ones.
        memory: Memory of workers; None if not measured.
    """

    name: str
    images: int
    ours: Spread
    stock: Spread
    ratio: Spread
    steps: dict[str, float]
    stock_steps: dict[str, float]
    memory: Growth | None


def seconds_of(dataset: BaseDataset, order: Sequence[int], start: int, stock: bool) -> float:
    """CPU seconds to load the images of ``order``, at positions ``start``, ``start + 1``, ... of the stream."""
    total = 0.0
    for offset, index in enumerate(order):
        place = position_of(index, start + offset)
        if stock:
            with same_draws(start + offset):
                begin = time.process_time()
                dataset[int(index)]
                total += time.process_time() - begin
        else:
            begin = time.process_time()
            dataset[place]
            total += time.process_time() - begin
    return total


def time_both(
    ours: BaseDataset, stock: BaseDataset, rounds: int, advance: Callable[[], None]
) -> tuple[list[float], list[float]]:
    """Seconds per image and round of both, in alternating order; the first round does not count."""
    order = range(len(ours))
    times: tuple[list[float], list[float]] = ([], [])
    for round_ in range(rounds + 1):
        start = round_ * len(ours)
        sides = [(0, ours), (1, stock)]
        for side, dataset in sides if round_ % 2 else reversed(sides):
            seconds = seconds_of(dataset, order, start, stock=side == 1) / len(ours)
            if round_:
                times[side].append(seconds)
        advance()
    return times


def time_steps(dataset: BaseDataset, rounds: int) -> dict[str, float]:
    """Milliseconds per image of each transform of the pipeline, those inside ``SeededTransforms`` one by one."""
    totals: dict[str, float] = {}

    def run(transforms: Sequence[Callable], results: dict) -> dict:
        for transform in transforms:
            inner = getattr(getattr(transform, 'transforms', None), 'transforms', None)
            if inner is not None:
                results = run(inner, results)
                continue
            begin = time.process_time()
            results = transform(results)
            name = type(transform).__name__
            totals[name] = totals.get(name, 0.0) + time.process_time() - begin
        return results

    for position in range(rounds * len(dataset)):
        info = dataset.get_data_info(position % len(dataset))
        with same_draws(position):
            run(dataset.pipeline.transforms, info)
    return {name: 1000 * seconds / (rounds * len(dataset)) for name, seconds in totals.items()}


def measure(name: str, args: argparse.Namespace, progress: Progress) -> Row:
    """All figures of one dataset."""
    root = args.roots.get(name) or fixture(name, args.folder, args.images)
    ours = our_dataset(name, root, args.folder, args.images)
    stock = stock_dataset(name, ours)
    task = progress.add_task(f'{name}: timing', total=args.rounds + 1)
    mine, theirs = time_both(ours, stock, args.rounds, lambda: progress.advance(task))
    steps, stock_steps = (time_steps(side, max(args.rounds // 4, 1)) for side in (ours, stock))
    memory = None
    if args.epoch_images:
        repeats = max(args.epoch_images // len(ours), 1)
        long = our_dataset(name, root, args.folder, args.images, repeats)
        task = progress.add_task(f'{name}: memory of workers', total=2 * len(long))
        memory = measure_growth(long, args.workers, lambda count: progress.advance(task, count))
    return Row(
        name,
        len(ours),
        Spread.of([1 / t for t in mine]),
        Spread.of([1 / t for t in theirs]),
        Spread.of([b / a for a, b in zip(mine, theirs)]),
        steps,
        stock_steps,
        memory,
    )


def make_tables(rows: Sequence[Row]) -> list[Table]:
    """The figures for people."""
    speed = Table(title='Images per second and worker (CPU time), median (quartiles)', title_justify='left')
    for heading in ('dataset', 'ours', 'stock', 'ours / stock', 'memory MiB', 'growth', 'KiB per image'):
        speed.add_column(heading, justify='left' if heading == 'dataset' else 'right')
    for row in rows:
        cells = ['-'] * 3
        if row.memory is not None:
            memory = row.memory
            cells = [f'{memory.after_first:.0f}', f'{memory.share:+.1%}', f'{memory.slope:+.2f}']
        speed.add_row(SOURCES[row.name].title, str(row.ours), str(row.stock), str(row.ratio), *cells)
    steps = Table(title='Transforms, ms per image', title_justify='left')
    for heading in ('dataset', 'side', 'transforms'):
        steps.add_column(heading)
    for row in rows:
        for side, found in (('ours', row.steps), ('stock', row.stock_steps)):
            steps.add_row(row.name, side, ', '.join(f'{name} {ms:.2f}' for name, ms in found.items()))
    return [speed, steps]


def missed_targets(rows: Sequence[Row]) -> list[str]:
    """What is slower than stock, and whose memory grows."""
    missed = [f'{row.name}: {row.ratio.median:.2f} of stock' for row in rows if row.ratio.median < 1]
    grown = [row for row in rows if row.memory is not None and row.memory.share > MEMORY_LIMIT]
    return missed + [f'{row.name}: memory of workers grows by {row.memory.share:.1%}' for row in grown]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Exit code: 0 if ours is at least as fast everywhere and no memory grows by more than '
        f'{MEMORY_LIMIT:.0%}, 1 if not. About 8 minutes on two cores; with --quick half a minute after the first time.',
    )  # fmt: skip
    parser.add_argument(
        '--datasets', nargs='+', default=list(SOURCES), choices=list(SOURCES), metavar='NAME',
        help=f'out of {", ".join(SOURCES)} (default: all)',
    )  # fmt: skip
    parser.add_argument('--rounds', type=int, default=24, help='timed rounds over the images (default: %(default)s)')
    parser.add_argument('--images', type=int, default=8, help='rendered images per dataset (default: %(default)s)')
    parser.add_argument(
        '--epoch-images', type=int, default=1600, metavar='N',
        help='images per epoch for the memory; 0 leaves it out (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument('--workers', type=int, default=2, help='worker processes for the memory (default: %(default)s)')
    parser.add_argument(
        '--data-root', action='append', default=[], metavar='NAME=FOLDER', help='real data instead of rendered images'
    )
    parser.add_argument('--folder', type=Path, default=None, help='where stand-ins are kept (default: in the cache)')
    parser.add_argument('--quick', action='store_true', help='4 rounds over 4 images, no memory')
    parser.add_argument('--out', type=Path, help='also write the figures to this JSON file')
    args = parser.parse_args(argv)
    if args.quick:
        args.rounds, args.images, args.epoch_images = 4, 4, 0
    for name, value, least in (('rounds', args.rounds, 2), ('images', args.images, 1), ('workers', args.workers, 1)):
        if value < least:
            parser.error(f'--{name} must be at least {least}, but got {value}')
    try:
        args.roots = roots_of(args.data_root)
    except ValueError as error:
        parser.error(str(error))
    args.folder = args.folder or default_folder()
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        rows = [measure(name, args, progress) for name in args.datasets]
    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in make_tables(rows):
        console.print(table)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + '\n')
    missed = missed_targets(rows)
    if missed:
        print(f'missed: {"; ".join(missed)}', file=sys.stderr)
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
