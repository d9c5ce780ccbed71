"""How long an aggregator takes for its K x K algebra: median time per call, given the products of the rows.

Random rows with conflicts and of different lengths. The products themselves, and the sum of the rows, depend on the
number of parameters and are part of the step's cost (benchmarks/step_cost.py). Methods that need coordinates have no
such part and are left out, SDMGrad as well, whose input is three matrices. One thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

if __package__ in (None, ''):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from rich.console import Console
from rich.table import Table

from mtl_plugins.methods import aggregation
from mtl_plugins.methods.aggregation import GramianAggregator

# Milliseconds up to K = 16.
CLOSED_FORM, ITERATIVE = 0.3, 1.0
METHODS = {
    'Sum': CLOSED_FORM,
    'Mean': CLOSED_FORM,
    'NGDiff': CLOSED_FORM,
    'PCGrad': CLOSED_FORM,
    'GradVac': ITERATIVE,
    'IMTLG': CLOSED_FORM,
    'AlignedMTL': CLOSED_FORM,
    'ConFIG': CLOSED_FORM,
    'MGDA': ITERATIVE,
    'DualProj': ITERATIVE,
    'UPGrad': ITERATIVE,
    'CAGrad': ITERATIVE,
    'ConicGrad': ITERATIVE,
    'NashMTL': ITERATIVE,
    'FairGrad': ITERATIVE,
    'CRMOGM': ITERATIVE,
    'PCD': ITERATIVE,
}


def products(num_tasks: int, generator: torch.Generator) -> torch.Tensor:
    """Products of rows whose lengths span two decades and of which about half of the pairs conflict."""
    rows = torch.randn(num_tasks, 4 * num_tasks, dtype=torch.float64, generator=generator)
    rows = rows * 10 ** (2 * torch.rand(num_tasks, 1, dtype=torch.float64, generator=generator))
    return rows @ rows.T


def time_method(aggregator: GramianAggregator, num_tasks: int, calls: int, seed: int = 0) -> float:
    """Return the median time of a call in milliseconds, over ``calls`` different problems after 5 that do not count."""
    generator = torch.Generator().manual_seed(seed)
    times = []
    for call in range(calls + 5):
        gram = products(num_tasks, generator)
        start = time.perf_counter()
        aggregator.weights(gram, generator=generator)
        if call >= 5:
            times.append(time.perf_counter() - start)
    return 1000 * median(times)


def measure(num_tasks: Sequence[int], calls: int) -> dict[str, dict[int, float]]:
    """Return milliseconds per method and number of tasks."""
    return {
        name: {count: time_method(getattr(aggregation, name)(), count, calls) for count in num_tasks}
        for name in METHODS
    }


def make_table(figures: dict[str, dict[int, float]]) -> Table:
    """One line per method, the target last; what misses it is marked."""
    table = Table(title='Median time per call, ms', title_justify='left')
    table.add_column('method')
    for count in next(iter(figures.values())):
        table.add_column(f'K = {count}', justify='right')
    table.add_column('target', justify='right')
    for name, row in figures.items():
        target = METHODS[name]
        cells = [f'{value:.3f}' + ('' if count > 16 or value < target else ' !') for count, value in row.items()]
        table.add_row(name, *cells, f'< {target}')
    return table


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Exit code: 0 if all targets up to K = 16 are met, 1 if one is missed. A few seconds.',
    )  # fmt: skip
    parser.add_argument('--num-tasks', type=int, nargs='+', default=[2, 4, 8, 11, 16], metavar='K')
    parser.add_argument('--calls', type=int, default=200, help='calls per figure (default: %(default)s)')
    parser.add_argument('--out', type=Path, help='also write the figures to this JSON file')
    args = parser.parse_args(argv)
    for name, value in (('num-tasks', min(args.num_tasks)), ('calls', args.calls)):
        if value < 1:
            parser.error(f'--{name} must be at least 1, but got {value}')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        figures = measure(args.num_tasks, args.calls)
    finally:
        torch.set_num_threads(threads)
    Console().print(make_table(figures))
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(figures, indent=1) + '\n')
    missed = [
        f'{name} at K = {count}'
        for name, row in figures.items()
        for count, value in row.items()
        if count <= 16 and value >= METHODS[name]
    ]
    if missed:
        print(f'missed: {", ".join(missed)}', file=sys.stderr)
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
