"""Which trainings make a table."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtl_plugins.config.cfg_options import ConfigArgumentParser
from mtl_plugins.config.loading import configs_root, load_config
from mtl_plugins.errors import UserError, UserFileNotFoundError
from mtl_plugins.experiments.runs import TrainingRun

from .tables import PublishedRow, PublishedTable

OWN_CONFIG = ('stgu', 'stgu_released')
"""Methods whose settings differ between datasets, so that they have configs of their own."""


@dataclass(frozen=True)
class RunOptions:
    """What the runs of a table have in common.

    Args:
        seeds: One run per row and seed.
        data_root: Folder of the data; None for the one in the configs.
        backbone: Replaces that of the table, for example ``'vit-tiny'``; None for the table's own.
        gpus: Processes per run; the batch of the config is split among them.
        cfg_options: Settings as ``KEY=VALUE`` that override those of the configs.
        root: Folder of all runs.
    """

    seeds: tuple[int, ...] = (0,)
    data_root: str | None = None
    backbone: str | None = None
    gpus: int = 1
    cfg_options: tuple[str, ...] = ()
    root: Path = Path('work_dirs/reproduce')

    def as_published(self, table: PublishedTable) -> bool:
        """Whether the runs have the setting of the table's configs."""
        return not self.cfg_options and self.backbone in (None, table.backbone)


@dataclass(frozen=True)
class RowRuns:
    """A row with its runs.

    Args:
        row: The published row.
        runs: (seed, column or None for all columns) -> run.
    """

    row: PublishedRow
    runs: dict[tuple[int, str | None], TrainingRun] = field(default_factory=dict)


def plan_table(table: PublishedTable, rows: Sequence[PublishedRow], options: RunOptions) -> list[RowRuns]:
    """All runs of ``rows``, the single-task ones first, since delta_m needs them; rows of others have none.

    Raises:
        FileNotFoundError: If there is no config for the backbone.
        ValueError: If the batch cannot be split among the GPUs.
    """
    planned = []
    for row in rows:
        if row.single_task:
            keys = [(seed, column.name) for seed in options.seeds for column in table.columns]
        else:
            keys = [(seed, None) for seed in options.seeds] if row.ours else []
        planned.append(RowRuns(row, {key: _run(table, row, *key, options) for key in keys}))
    return planned


def _run(table: PublishedTable, row: PublishedRow, seed: int, column: str | None, options: RunOptions) -> TrainingRun:
    config = config_of(table, row, options.backbone)
    arguments, swap = [str(_short(config))], None
    if row.method and row.method not in ('gd', *OWN_CONFIG):
        swap = row.method
        arguments += ['--method', swap]
    tasks = None
    if column is not None:
        tasks = [next(entry.task for entry in table.columns if entry.name == column)]
        arguments += ['--tasks', *tasks]
    arguments += ['--seed', str(seed)]
    if options.data_root:
        arguments += ['--data-root', options.data_root]
    overrides, launcher = [*_settings(table, tasks), *options.cfg_options], None
    if options.gpus > 1:
        overrides += [_batch_per_gpu(config, overrides, options.gpus)]
        arguments += ['--launcher', 'pytorch']
        launcher = [sys.executable, '-m', 'torch.distributed.run', f'--nproc_per_node={options.gpus}', '--standalone']
    if overrides:
        arguments += ['--cfg-options', *overrides]
    folder = Path(options.root, table.name, options.backbone or table.backbone, row.method or 'single_task')
    name = row.name if column is None else f'{row.name} {column}'
    cfg = load_config(
        config, _parsed(overrides), method=swap, seed=seed, data_root=options.data_root, tasks=tasks
    )  # fmt: skip
    return TrainingRun(
        f'{name}, seed {seed}',
        folder / '_'.join(filter(None, [*(tasks or []), f'seed_{seed}'])),
        cfg,
        arguments,
        launcher,
    )


def _settings(table: PublishedTable, tasks: Sequence[str] | None) -> list[str]:
    """The settings of the table, without those of heads that a single-task model does not have."""
    kept = []
    for setting in table.settings:
        names = setting.split('.')
        if tasks is None or names[:2] != ['model', 'heads'] or names[2] in tasks:
            kept.append(setting)
    return kept


def config_of(table: PublishedTable, row: PublishedRow, backbone: str | None) -> Path:
    """The config of a row: that of its method if it has one of its own, else the one of ``gd``.

    Raises:
        FileNotFoundError: If there is none for the backbone.
    """
    key = row.method if row.method in OWN_CONFIG else 'gd'
    backbone = backbone or table.backbone
    folder = configs_root() / table.dataset
    found = sorted(folder.glob(f'{key}_{backbone}_*.py'))
    if not found:
        have = sorted({path.stem.split('_')[-3] for path in folder.glob('gd_*.py')})
        raise UserFileNotFoundError(
            f'no config {key}_{backbone}_*.py in {folder}; the backbones there are {", ".join(have)}'
        )
    return found[0]


def _short(path: Path) -> Path:
    """Relative to the current folder where that is possible, for commands that can be read."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _batch_per_gpu(config: Path, overrides: Sequence[str], gpus: int) -> str:
    batch = load_config(config, _parsed(overrides)).train_dataloader.batch_size
    if batch % gpus:
        raise UserError(f'--gpus {gpus}: the batch of {batch} of {config} cannot be split evenly; choose a divisor')
    return f'train_dataloader.batch_size={batch // gpus}'


def _parsed(overrides: Sequence[str]) -> dict:
    return ConfigArgumentParser().parse_args(['--cfg-options', *overrides]).cfg_options if overrides else {}
