"""The command ``prepare-nyuv2``: NYUD-v2 from the file that anyone can download."""

from argparse import ArgumentParser, Namespace

from mtl_plugins.datasets.nyud.prepare import NOTE, prepare_nyuv2
from mtl_plugins.datasets.nyud.sources import open_source

from .parsers import command


@command
def main(parser: ArgumentParser, args: Namespace) -> int:
    """Run the command and return its exit code."""
    source = open_source(args.source)
    provenance = prepare_nyuv2(source, args.out, args.jobs)
    counts = ', '.join(f'{split} {count}' for split, count in provenance['counts'].items())
    height, width = provenance['size']
    print(f'{args.out}: {counts} images of {height} x {width}\nnote: {NOTE}')
    if sum(provenance['counts'].values()) != 1449:
        print(f'note: the source holds {sum(provenance["counts"].values())} of the 1449 labelled images')
    print(f'check it: python tools/datasets/verify.py nyud {args.out}')
    return 0
