"""Draw what a run with Selective Task Group Updates learned about its tasks.

From the affinity.jsonl that the run keeps in its work dir:
  affinity.png          heat map of the affinity at one iteration
  affinity_curves.png   affinity of chosen pairs of tasks over time
  affinity_panels.png   affinity of all pairs over time, one panel per affected task
  groups.png            which tasks shared a group when, and how many groups there were

Examples:
  python tools/analysis/plot_affinity.py work_dirs/stgu_vit-micro_8b-2k_rooms-96
  python tools/analysis/plot_affinity.py work_dirs/RUN/20260101_120000/affinity.jsonl --iter 500 --out figures
  python tools/analysis/plot_affinity.py work_dirs/RUN --pairs semseg:depth,depth:semseg
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtl_plugins.errors import UserError


def parse_args(argv: Sequence[str] | None = None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    summary, _, examples = (__doc__ or '').partition('\nExamples:\n')
    parser = argparse.ArgumentParser(
        description=summary,
        epilog='examples:\n' + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('source', metavar='WORK_DIR|affinity.jsonl', help='work dir of a run, or one log of it')
    parser.add_argument('--out', metavar='DIR', help='folder for the pictures (default: SOURCE/affinity_figures)')
    parser.add_argument(
        '--iter', type=int, metavar='N', help='iteration of the heat map; the nearest logged one is taken'
    )
    parser.add_argument(
        '--pairs',
        metavar='FROM:TO[,FROM:TO]',
        help='pairs of tasks for the curves (default: the six strongest)',
    )
    return parser, parser.parse_args(argv)


def split_pairs(pairs: str | None) -> list[tuple[str, str]] | None:
    if pairs is None:
        return None
    split = [tuple(part.split(':')) for part in pairs.split(',') if part]
    wrong = [':'.join(pair) for pair in split if len(pair) != 2]
    if wrong:
        raise UserError(f'--pairs takes FROM:TO, for example semseg:depth, but got {", ".join(wrong)}')
    return split


def main(argv: Sequence[str] | None = None) -> int:
    parser, args = parse_args(argv)
    import numpy as np

    from mtl_plugins.visualization import (
        draw_affinity,
        draw_affinity_curves,
        draw_affinity_panels,
        draw_group_timeline,
        read_run,
    )

    source = Path(args.source)
    try:
        pairs = split_pairs(args.pairs)
        entries = read_run(source)
        out = Path(args.out) if args.out else (source if source.is_dir() else source.parent) / 'affinity_figures'
        iterations = [entry['iter'] for entry in entries]
        tasks = entries[-1]['tasks']
        history = np.array([entry['affinity'] for entry in entries], dtype=float)
        wanted = iterations[-1] if args.iter is None else args.iter
        place = int(np.argmin(np.abs(np.array(iterations) - wanted)))
        written = [out / f'{name}.png' for name in ('affinity', 'affinity_curves', 'affinity_panels', 'groups')]
        draw_affinity(history[place], tasks, f'Affinity after {iterations[place]} iterations', written[0])
        draw_affinity_curves(iterations, history, tasks, pairs, path=written[1])
        draw_affinity_panels(iterations, history, tasks, path=written[2])
        draw_group_timeline(iterations, [entry['groups'] for entry in entries], tasks, written[3])
    except (UserError, OSError) as error:
        parser.exit(2, f'plot_affinity: error: {error}\n')
    if iterations[place] != wanted:
        print(f'iteration {wanted} is not in the log; the heat map shows {iterations[place]}')
    print(f'{len(entries)} entries, iterations {iterations[0]} to {iterations[-1]}, tasks {", ".join(tasks)}')
    for path in written:
        print(path)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
