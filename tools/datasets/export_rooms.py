"""Write rendered rooms as one of the published datasets, to try a loader, a config or verify.py without the archive, or
in the folders of MMSegmentation, to train its models.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from exporters import EXPORTERS

from mtl_plugins.datasets.files.provenance import read_provenance
from mtl_plugins.datasets.nyud.layout import PACKAGINGS as NYUD_PACKAGINGS
from mtl_plugins.datasets.taskonomy.layout import ORDERS as TASKONOMY_ORDERS
from mtl_plugins.errors import UserError

PACKAGINGS = {'nyud': tuple(NYUD_PACKAGINGS), 'pascal_context': (), 'taskonomy': tuple(TASKONOMY_ORDERS), 'mmseg': ()}
"""Dataset -> the ways in which its files are published or nested, the default first; none if there is only one."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    listed = '\n'.join(f'  {dataset:10} {", ".join(names)}' for dataset, names in PACKAGINGS.items() if names)
    parser = argparse.ArgumentParser(
        prog='export_rooms.py',
        description='Write rendered rooms in the layout of a published dataset: same file names, formats and split\n'
        'files; or, with mmseg, as img_dir, ann_dir and depth_dir for the dataset classes of MMSegmentation.\n'
        'The first time, an image of real size takes about half a second; then it is in the cache.',
        epilog=f'packagings (the first is the default):\n{listed}\n\n'
        'Example: python tools/datasets/export_rooms.py nyud data/NYUDv2 --train 8 --val 4',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('dataset', choices=EXPORTERS, metavar='DATASET', help=', '.join(EXPORTERS))
    parser.add_argument('out', metavar='OUT', type=Path, help='a new folder')
    parser.add_argument('--train', type=int, default=4, metavar='N', help='images to train on (default: 4)')
    parser.add_argument('--val', type=int, default=2, metavar='N', help='images for validation (default: 2)')
    parser.add_argument('--test', type=int, metavar='N', help='images to test on, Taskonomy only (default: as --val)')
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), help='pixels (default: as the real images)')
    parser.add_argument('--packaging', metavar='NAME', help='which of the published forms to write, see below')
    parser.add_argument('--seed', type=int, default=0, help='seed of the rooms (default: 0)')
    parser.add_argument('-j', '--jobs', type=int, default=0, metavar='N', help='processes that render (default: none)')
    args = parser.parse_args(argv)
    known = PACKAGINGS[args.dataset]
    if args.packaging is not None and args.packaging not in known:
        expected = f'{args.dataset} comes as {", ".join(known)}' if known else f'{args.dataset} has only one'
        parser.error(f'argument --packaging: {expected}, but got {args.packaging!r}')
    if args.test is not None and args.dataset != 'taskonomy':
        parser.error(f'argument --test: {args.dataset} has no test split')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    counts = {'train': args.train, 'val': args.val, **({} if args.test is None else {'test': args.test})}
    # What is not given is left to the exporter's own default.
    options = {'size': args.size and tuple(args.size), 'packaging': args.packaging}
    try:
        root = EXPORTERS[args.dataset](
            args.out, counts, seed=args.seed, num_workers=args.jobs,
            **{name: value for name, value in options.items() if value is not None},
        )  # fmt: skip
    except (UserError, OSError) as error:
        print(f'export_rooms.py: {error}', file=sys.stderr)
        return 2
    images = ', '.join(f'{split} {count}' for split, count in read_provenance(root)['counts'].items())
    print(f'{args.dataset} is written to {root} ({images})')
    if args.dataset == 'mmseg':
        config = 'configs/mmseg/fcn_r18-d8_1xb8-2k_rooms-96x96.py'
        print(f'train on it: python tools/train.py {config} --method stgu --data-root {root}')
    else:
        print(f'check it: python tools/datasets/verify.py {args.dataset} {root}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
