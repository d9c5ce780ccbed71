"""What a training step costs: gd, stgu and the loop of the released STGU program, from one run.

ViT-Tiny with a 1x1 head per task, random images and targets, weights from scratch. First it is made sure that stgu and
the released loop make the same update; if not, nothing is measured. Then forwards, backwards, FLOPs and reads by the
host are counted, peak memory is taken, and all loops are timed in turn. Figures are ratios to gd within a round, as
median (lower-upper quartile). On a CPU with one thread the clock is the process's own CPU time, which other programs
disturb little; with several threads it is wall time, on a GPU the time between two events on it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ''):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# Has to be set before torch is imported: its profiler talks about absent GPUs, its matrix library needs a workspace to
# be deterministic on a present one.
for _name, _value in dict(
    KINETO_LOG_LEVEL='99', TORCH_CPP_LOG_LEVEL='ERROR', CUBLAS_WORKSPACE_CONFIG=':4096:8'
).items():
    os.environ.setdefault(_name, _value)

import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: E402

from benchmarks.counting import count_step  # noqa: E402
from benchmarks.equality import UnequalUpdatesError, check_equal_updates  # noqa: E402
from benchmarks.results import Check, Row, check_all, make_table, to_json  # noqa: E402
from benchmarks.systems import System, build_all  # noqa: E402
from benchmarks.workload import Workload  # noqa: E402
from mtl_plugins.experiments.measuring.memory import peak_memory  # noqa: E402
from mtl_plugins.experiments.measuring.timing import Spread, Times, ratio, time_systems  # noqa: E402
from mtl_plugins.runtime.hooks.environment import collect_environment  # noqa: E402

QUICK_SIZE, FULL_SIZE = 128, 224


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Exit code: 0 if all targets are met, 1 if one is missed, 2 if the comparison is void or an option is '
        'wrong. About 4 minutes on one core, three times that with --full.',
    )  # fmt: skip
    parser.add_argument('--full', action='store_true', help=f'images of {FULL_SIZE} instead of {QUICK_SIZE} pixels')
    parser.add_argument('--image-size', type=int, help='side of the images, a multiple of 16; overrides --full')
    parser.add_argument('--batch-size', type=int, default=4, help='images per batch (default: %(default)s)')
    parser.add_argument(
        '--num-tasks', type=int, nargs='+', default=[4, 11], metavar='K',
        help='numbers of tasks, the first K tasks of Rooms (default: 4 11)',
    )  # fmt: skip
    parser.add_argument('--rounds', type=int, default=30, help='timed rounds; 0 counts only (default: %(default)s)')
    parser.add_argument('--warmup', type=int, default=3, help='rounds before them (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=1, help='threads of torch on the CPU (default: %(default)s)')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu', help='default: %(default)s')
    parser.add_argument('--out', type=Path, help='also write everything to this JSON file')
    args = parser.parse_args(argv)
    for name, least in (('batch_size', 1), ('rounds', 0), ('warmup', 0), ('threads', 1)):
        if getattr(args, name) < least:
            parser.error(f'--{name.replace("_", "-")} must be at least {least}, but got {getattr(args, name)}')
    if args.rounds == 1:
        parser.error('--rounds must be 0 or at least 2: one round has no spread')
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: torch sees no GPU here')
    args.image_size = args.image_size or (FULL_SIZE if args.full else QUICK_SIZE)
    return args


def measure(work: Workload, rounds: int, warmup: int, clock: str, progress: Progress) -> tuple[list[Row], Times]:
    """Everything about one number of tasks.

    Raises:
        UnequalUpdatesError: If stgu and the released loop do not make the same update.
    """
    batch = work.make_batch()
    bar = progress.add_task(f'K={work.num_tasks}: equal updates', total=None)
    differences = check_equal_updates(work, batch)
    systems = build_all(work, batch)
    progress.update(bar, description=f'K={work.num_tasks}: counts, memory', total=len(systems) * (1 + warmup + rounds))
    rows = [_count(work, system, batch, lambda: progress.advance(bar)) for system in systems]
    for row in rows:
        row.update_difference = differences[row.num_groups] if row.system == 'stgu' else None
    progress.update(bar, description=f'K={work.num_tasks}: time')
    times = time_systems(systems, rounds, warmup, lambda: progress.advance(bar))
    if rounds:
        for row, system in zip(rows, systems):
            row.seconds = Spread.of([seconds[clock] for seconds in times[system.label]])
            row.to_gd = ratio(times, system.label, 'gd', clock)
            if row.system == 'stgu':
                row.to_released = ratio(times, system.label, f'released M={row.num_groups}', clock)
    return rows, times


def _count(work: Workload, system: System, batch: dict[str, Any], advance: Any) -> Row:
    system.step()  # the optimizer makes its state, and each task's graph is looked at once
    row = Row(work.num_tasks, system.name, system.num_groups, count_step(system, batch), peak_memory(system))
    advance()
    return row


def report(console: Console, rows: Sequence[Row], checks: Sequence[Check], title: str) -> None:
    """Print the table and the targets that were missed."""
    console.print(make_table(rows, title))
    missed = [check for check in checks if not check.ok]
    for check in missed:
        console.print(f'[red]missed[/red]  {check.target}; found {check.found}', highlight=False)
    console.print(f'{len(checks) - len(missed)} of {len(checks)} targets met')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    # Sums whose order changes from run to run would fail the comparison of the updates on a GPU.
    torch.use_deterministic_algorithms(args.device == 'cuda', warn_only=True)
    clock = 'cuda' if args.device == 'cuda' else 'cpu' if args.threads == 1 else 'wall'
    console = Console(width=None if sys.stdout.isatty() else 140)
    settings = {**vars(args), 'out': str(args.out or ''), 'clock': clock, 'environment': collect_environment()}
    rows: list[Row] = []
    times: dict[int, Times] = {}
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
            for num_tasks in args.num_tasks:
                work = Workload(num_tasks, args.image_size, args.batch_size, args.device)
                found, times[num_tasks] = measure(work, args.rounds, args.warmup, clock, progress)
                rows += found
    except (UnequalUpdatesError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    checks = check_all(rows)
    title = (
        f'ViT-Tiny/16, {args.image_size} x {args.image_size}, batch {args.batch_size}, {args.device}, '
        f'{args.threads} thread(s), {args.rounds} rounds, {clock} time'
    )
    report(console, rows, checks, title)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        content = {**to_json(rows, checks, settings), 'seconds': {str(k): v for k, v in times.items()}}
        args.out.write_text(json.dumps(content, indent=1, default=str) + '\n', encoding='utf-8')
    return 0 if all(check.ok for check in checks) else 1


if __name__ == '__main__':
    sys.exit(main())
