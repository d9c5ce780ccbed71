"""Published tables from the command line: ``tools/analysis/reproduce.py``."""

import os
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mtl_plugins.config.loading import configs_root
from mtl_plugins.datasets.files.provenance import read_provenance
from mtl_plugins.errors import UserFileNotFoundError
from mtl_plugins.evaluation.result_table import render_text
from mtl_plugins.experiments.reproduce import (
    PublishedTable,
    RowRuns,
    RunOptions,
    fill_table,
    list_tables,
    load_table,
    plan_table,
    to_markdown,
    to_rich,
    write_metafile,
)
from mtl_plugins.experiments.runs import execute
from mtl_plugins.runtime.checkpoints import write_atomically
from mtl_plugins.runtime.work_folder import naming
from mtl_plugins.utils.files import given_path

from .parsers import command

MAX_WIDTH = 400


@command
def main(parser: ArgumentParser, args: Namespace) -> int:
    """Print, run or fill; returns the exit code."""
    console = Console(soft_wrap=True, highlight=False)
    if args.list or args.table is None:
        for name in list_tables():
            console.print(f'{name:22} {load_table(name).title}', markup=False)
        return 0 if args.list else parser.error('name a TABLE of this list')
    table = load_table(args.table)
    rows = [table.row(name) for name in args.rows] if args.rows else list(table.rows)
    options = RunOptions(tuple(args.seeds), args.data_root, args.backbone, args.gpus, args.cfg_words, args.work_dir)
    planned = plan_table(table, rows, options)
    runs = [run for plan in planned for run in plan.runs.values()]
    if args.dry_run:
        _print_commands(console, planned)
        return 0
    failed = []
    if args.run:
        if args.data_root and not given_path(args.data_root, '--data-root').is_dir():
            raise UserFileNotFoundError(f'--data-root {args.data_root}: there is no such folder; give that of the data')
        with naming(args.work_dir):
            for run in runs:
                run.prepare()
            failed = execute([run for run in runs if not run.finished()], args.jobs, console)
        for run in failed:
            console.print(f'FAILED {run.name}: {run.error}', markup=False)
    _report(console, table, planned, options, args)
    return 1 if failed else 0


def _print_commands(console: Console, planned: Sequence[RowRuns]) -> None:
    for plan in planned:
        if not plan.row.ours:
            console.print(f'# {plan.row.name}: published only, the method is not part of mtl_plugins', markup=False)
        for run in plan.runs.values():
            console.print(f'# {run.name}', markup=False)
            command = ['python', *run.command[1:]]
            console.print(shlex.join(command), markup=False)


def _report(
    console: Console, table: PublishedTable, planned: Sequence[RowRuns], options: RunOptions, args: Namespace
) -> None:
    filled = fill_table(table, planned)
    # Squeezed into a narrow terminal, a table of eleven columns would hold nothing but dots.
    console.print(f'\n{render_text(to_rich(table, filled), width=MAX_WIDTH)}\n', markup=False)
    console.print(f'published: {table.source}', markup=False)
    console.print(table.caution, markup=False)
    root = options.data_root and given_path(options.data_root, '--data-root')
    provenance = read_provenance(root, *sorted(root.iterdir())) if root else None
    if provenance:
        console.print(f'{root}: {provenance["note"]}', markup=False)
    done, wanted = sum(row.finished for row in filled), sum(row.planned for row in filled)
    console.print(f'{done} of {wanted} runs are finished' + ('' if done == wanted else '; --run trains the others'))
    remark = f'Data: {provenance["note"]}. ' if provenance else ''
    if not options.as_published(table):
        changes = ' '.join([*([f'backbone {options.backbone}'] * bool(options.backbone)), *options.cfg_options])
        differs = f'Our runs differ from the setting of the table ({changes}); the differences mean little.'
        console.print(differs, markup=False)
        remark += differs
    out = args.out or Path(options.root, table.name, options.backbone or table.backbone, 'table.md')
    write_atomically(to_markdown(table, filled, remark).encode(), out)
    console.print(f'table: {os.path.relpath(out)}', markup=False)
    if args.metafile:
        path = configs_root() / table.dataset / 'metafile.yml'
        written = write_metafile(path, table, planned, filled, options)
        console.print(f'{path}: {", ".join(written)}' if written else 'no row is finished: no metafile', markup=False)
