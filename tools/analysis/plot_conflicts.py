"""Draw how far the gradients of the tasks agree in a run.

The run writes conflicts.jsonl, under any method, if its config has the hook, or from the command line:
  python tools/train.py CONFIG --cfg-options default_hooks.conflicts.type=mtl_plugins.GradientConflictHook \\
    default_hooks.conflicts.interval=50

Pictures:
  conflict_cosines.png   mean cosine between the gradients of every two tasks
  conflict_layers.png    how many pairs of tasks are in conflict, by layer and over time
  conflict_pairs.png     how often each pair of tasks is in conflict, over time

Examples:
  python tools/analysis/plot_conflicts.py work_dirs/stgu_vit-micro_8b-2k_rooms-96
  python tools/analysis/plot_conflicts.py work_dirs/RUN --depth 4 --out figures
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtl_plugins.config.arguments import positive
from mtl_plugins.errors import UserError

READABLE_ROWS = 24


def parse_args(argv: Sequence[str] | None = None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    summary, _, examples = (__doc__ or '').partition('\nExamples:\n')
    parser = argparse.ArgumentParser(
        description=summary,
        epilog='examples:\n' + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('source', metavar='WORK_DIR|conflicts.jsonl', help='work dir of a run, or one log of it')
    parser.add_argument('--out', metavar='DIR', help='folder for the pictures (default: SOURCE/conflict_figures)')
    parser.add_argument(
        '--depth',
        type=positive,
        metavar='N',
        help='parts of a parameter name that make a layer, for example 2 for backbone.layer1 (default: as many as give '
        f'no more than {READABLE_ROWS} layers)',
    )
    return parser, parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    parser, args = parse_args(argv)
    from mtl_plugins.visualization import draw_layer_conflicts, draw_mean_cosines, draw_pair_conflicts, read_conflicts

    source = Path(args.source)
    try:
        conflicts = read_conflicts(source)
        out = Path(args.out) if args.out else (source if source.is_dir() else source.parent) / 'conflict_figures'
        parts = conflicts.at_depth(args.depth) if args.depth else conflicts.with_at_most(READABLE_ROWS)
        written = [out / f'conflict_{name}.png' for name in ('cosines', 'layers', 'pairs')]
        draw_pair_conflicts(conflicts, written[2])
        draw_mean_cosines(conflicts, written[0])
        draw_layer_conflicts(parts, written[1])
    except (UserError, OSError) as error:
        parser.exit(2, f'plot_conflicts: error: {error}\n')
    iterations = conflicts.iterations
    print(
        f'{len(iterations)} measurements, iterations {iterations[0]} to {iterations[-1]}, '
        f'{len(parts.layers)} layers, tasks {", ".join(conflicts.tasks)}'
    )
    for path in written:
        print(path)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
