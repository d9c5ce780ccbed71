"""The command ``tools/datasets/verify.py``."""

import json
import os
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mtl_plugins.datasets.files.folders import FolderNotFoundError
from mtl_plugins.datasets.verification.base import LayoutCheck, get_layout_check, make_problem
from mtl_plugins.datasets.verification.manifest import (
    Changes,
    Manifest,
    ManifestError,
    check_writable,
    compare,
    default_manifest_path,
    load_manifest,
    save_manifest,
)
from mtl_plugins.datasets.verification.report import Report
from mtl_plugins.datasets.verification.runner import Verification, VerificationError, verify
from mtl_plugins.errors import UserError
from mtl_plugins.utils.files import write_whole
from mtl_plugins.utils.parallel import usable_cores

from .parsers import command

CLEAN, PROBLEMS, USAGE, INTERRUPTED = 0, 1, 2, 130


@command
def main(parser: ArgumentParser, args: Namespace) -> int:
    """Run the command and return its exit code."""
    if args.jobs is None:
        args.jobs = usable_cores()
    if args.jobs < 1 or args.show < 0:
        parser.error('--jobs must be 1 or more, and --show 0 or more')
    for option, path in (('--json', args.json), ('--manifest', args.manifest)):
        if path is not None and (not path.name or path.is_dir()):
            parser.error(f'{option}: expected a file to write, but got {str(path)!r}')
    if args.json and not os.access(args.json.parent, os.W_OK):
        parser.error(f'--json: {args.json} cannot be written: there is no folder {args.json.parent} to write into')
    if (args.no_hash or args.quick) and (args.manifest or args.update_manifest):
        parser.error('--manifest and --update-manifest need the hashes that --no-hash and --quick leave out')
    if not args.root.is_dir():
        parser.error(f'there is no folder {args.root}')
    try:
        check_class = get_layout_check(args.dataset)
    except (UserError, ImportError) as error:
        parser.error(str(error))
    try:
        report = run(args, check_class)
    except (ManifestError, VerificationError) as error:
        print(f'verify.py: {error}', file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print('verify.py: interrupted; nothing was written', file=sys.stderr)
        return INTERRUPTED
    return tell(report, args)


def run(args: Namespace, check_class: type[LayoutCheck]) -> Report:
    """Verify the folder, and compare with or write its manifest."""
    start = time.monotonic()
    try:
        check = check_class(args.root)
    except FileNotFoundError as error:
        # What the loader advises is to call this command.
        text = error.finding if isinstance(error, FolderNotFoundError) else str(error)
        problem = make_problem('wrong folder', '', text)
        return Report(args.dataset, str(args.root), {}, Verification((problem,)))
    stamps = not (args.no_hash or args.quick)
    path = old = None
    if stamps:
        path = args.manifest or default_manifest_path(check.NAME, check.root)
        old = load_manifest(path, check.NAME)
        check_writable(path)
    outcome = verify(check, workers=args.jobs, content=not args.quick, stamps=stamps)
    changes, sentence = None, ''
    if stamps:
        changes, sentence = settle_manifest(
            path, old, Manifest(check.NAME, outcome.stamps), outcome, args.update_manifest
        )
    return Report(check.NAME, str(check.root), check.describe(), outcome, changes, sentence, time.monotonic() - start)


def settle_manifest(
    path: Path, old: Manifest | None, found: Manifest, outcome: Verification, update: bool
) -> tuple[Changes | None, str]:
    """Compare with the manifest, or write it; returns the differences and a sentence about what was done.

    Only sound files enter a manifest. One that is there is replaced only by ``update``; new files are added to it.
    """
    bad = {problem.path for problem in outcome.problems}
    sound = {name: stamp for name, stamp in found.stamps.items() if name not in bad}
    if old is None or update:
        if not sound:
            return None, ''
        save_manifest(path, Manifest(found.dataset, sound))
        return None, f'manifest: {len(sound)} files noted in {path}'
    changes = compare(old, sound, bad)
    if changes.new:
        save_manifest(path, Manifest(found.dataset, {**sound, **old.stamps}))
    same = len(old.stamps.keys() & sound.keys()) - len(changes.changed)
    return changes, f'manifest: {same} of {len(old.stamps)} files are as noted in {path}'


def tell(report: Report, args: Namespace) -> int:
    """Print the report, write the JSON, and return the exit code."""
    print(report.as_text(args.show))
    if args.json:
        try:
            write_whole(args.json, (json.dumps(report.as_dict(), indent=1) + '\n').encode())
        except OSError as error:
            print(f'verify.py: cannot write --json {args.json} ({error})', file=sys.stderr)
            return USAGE
    return PROBLEMS if report.problems else CLEAN
