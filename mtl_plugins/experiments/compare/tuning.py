"""A setting of its own for every method: grids, and the choice on a part of the training set that is held out."""

import copy
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from mmengine.config import Config

from mtl_plugins.config.cfg_options import parse_value
from mtl_plugins.config.datasets import leaves_of
from mtl_plugins.errors import UserError
from mtl_plugins.evaluation.delta_m import delta_m

from .keys import Key, label
from .variants import Variant, split_list

HOLD_OUT = 'mtl_plugins.HoldOut'


@dataclass(frozen=True)
class Tuning:
    """How settings are chosen.

    Args:
        grid: Entry of ``optim_wrapper`` -> the values that are tried; of several entries, all combinations.
        share: Share of the training set that is held out.
        seeds: Seeds of the runs that choose.
        shared: The variant whose choice is what all variants are compared at, too; None for no such comparison.
    """

    grid: Mapping[str, Sequence[Any]]
    share: float
    seeds: Sequence[int]
    shared: str | None

    def points(self) -> list[dict[str, Any]]:
        """All settings of the grid."""
        return [dict(zip(self.grid, values)) for values in itertools.product(*self.grid.values())]

    def concerns(self, variant: Variant) -> bool:
        """Whether a variant is tuned: one that gives an entry of the grid itself is not."""
        return not any(name in variant.options for name in self.grid)

    def joined(self, former: 'Tuning | None') -> 'Tuning':
        """This one with the values that were tried before, for other variants perhaps, and what was shared then.

        Raises:
            UserError: If the former runs do not compare with those to come.
        """
        if former is None:
            return self
        for option, old, new in (
            ('--tune', sorted(former.grid), sorted(self.grid)),
            ('--tune-on', former.share, self.share),
            ('--tune-seeds', list(former.seeds), list(self.seeds)),
        ):
            if old != new:
                raise UserError(
                    f'{option}: the results file has runs that choose settings with {old}, now {new}; give the same, '
                    'or write to another --results'
                )
        grid = {}
        for name, values in self.grid.items():
            found = {label({'': value}): value for value in (*former.grid[name], *values)}
            grid[name] = sorted(found.values()) if _are_numbers(found.values()) else list(found.values())
        return replace(self, grid=grid, shared=former.shared or self.shared)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        grid = {name: list(values) for name, values in self.grid.items()}
        return dict(grid=grid, share=self.share, seeds=list(self.seeds), shared=self.shared)


def parse_grid(text: str) -> tuple[str, list[Any]]:
    """Read ``optimizer.lr=5e-4,1e-3,2e-3``.

    Raises:
        UserError: If it is not of this form, or has fewer than two values.
    """
    name, separator, values = text.partition('=')
    found = {label({'': value}): value for value in map(parse_value, split_list(values))}
    if not (all(name.split('.')) and separator and len(found) > 1):
        raise UserError(
            f'expected an entry of optim_wrapper and two values or more, such as optimizer.lr=5e-4,1e-3,2e-3, but got '
            f'{text!r}'
        )
    return name, list(found.values())


def hold_out(cfg: Config, share: float) -> Config:
    """The config of a training without a part of its training set, validated on that part.

    The held-out part goes through the validation's pipeline.

    Raises:
        UserError: If it is not clear which pipeline that is.
    """
    cfg = copy.deepcopy(cfg)
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    readers = [reader for _, reader in leaves_of('', val)]
    leaves = [leaf for _, leaf in leaves_of('', train)]
    if len({label(dict(it=each.get('pipeline'))) for each in readers}) == 1:
        readers = readers[:1] * len(leaves)
    if len(readers) != len(leaves):
        raise UserError(
            f'--tune: the training set is made of {len(leaves)} datasets and the validation set of {len(readers)} with '
            'different pipelines, so that it is not clear which one the held-out part of each needs'
        )
    parts = []
    for leaf, reader in zip(leaves, readers):
        whole, own = copy.deepcopy(leaf), {**copy.deepcopy(leaf), 'pipeline': reader.get('pipeline')}
        if 'test_mode' in reader:
            own['test_mode'] = reader['test_mode']
        parts.append(dict(type=HOLD_OUT, dataset=own, share=share, held_out=True))
        leaf.clear()  # in its wrappers stands what is left of it
        leaf.update(type=HOLD_OUT, dataset=whole, share=share, held_out=False)
    cfg.val_dataloader.pop('dataset')  # merging would keep entries of the old one
    cfg.val_dataloader.dataset = parts[0] if len(parts) == 1 else _joined(train, parts)
    return cfg


def held_out_parts(cfg: Config) -> list[Mapping[str, Any]]:
    """The :data:`HOLD_OUT` entries of the validation in what :func:`hold_out` returns."""
    dataset = cfg.val_dataloader.dataset
    return list(dataset['datasets']) if 'datasets' in dataset else [dataset]


def _joined(dataset: Any, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The held-out parts in the concatenation that the training set has."""
    while isinstance(dataset.get('dataset'), Mapping):
        dataset = dataset['dataset']
    return {**dataset, 'datasets': parts}


class Choice(NamedTuple):
    """What tuning a variant came to.

    Attributes:
        at: The chosen settings; empty if no run gave a result that can be compared.
        scores: Settings -> mean over the tasks of how far they stay behind the best settings of each task, in percent;
            NaN where some run is missing or a headline metric is no number.
        border: Names of the entries whose chosen number is the smallest or largest that this variant was tried with.
    """

    at: str
    scores: dict[str, float]
    border: tuple[str, ...]


def choose(
    records: Mapping[Key, Mapping[str, Any] | None],
    variant: str,
    task: str | None,
    tuning: Tuning,
    tasks: Mapping[str, Any],
) -> Choice:
    """Choose settings by the runs on the held-out part, at their end.

    Each task counts by its change in percent against the best settings for it, so that no other variant and no run that
    failed has a say in it.

    Args:
        records: All records; None for runs that failed.
        variant: Name of the variant.
        task: Task of a single-task model, or None.
        tuning: What was tried.
        tasks: Task -> its ``metric`` and ``higher_is_better``.
    """
    tasks = tasks if task is None else {task: tasks[task]}
    up = {name: entry['higher_is_better'] for name, entry in tasks.items()}
    means: dict[str, dict[str, float]] = {}
    tried: list[dict[str, Any]] = []
    for point in tuning.points():
        at = label(point)
        keys = [Key(variant, seed, task, at, True) for seed in tuning.seeds]
        runs = [records.get(key) for key in keys]
        tried += [point] * any(key in records for key in keys)
        curves = [run['curve'][-1]['metrics'] if run else {} for run in runs]
        values = {name: [curve.get(entry['metric']) for curve in curves] for name, entry in tasks.items()}
        means[at] = {name: _mean(found) for name, found in values.items()}
    best: dict[str, float] = {}
    for name, higher in up.items():
        known = [found[name] for found in means.values() if found[name] is not None]
        value = (max if higher else min)(known, default=math.nan)
        if value != 0:  # else there are no changes in percent
            best[name] = value
    scores = {
        at: delta_m({name: found[name] for name in best}, best, up) if None not in found.values() else math.nan
        for at, found in means.items()
    }
    able = [at for at, score in scores.items() if math.isfinite(score)]
    if not able:
        return Choice('', scores, ())
    chosen = max(able, key=scores.__getitem__)
    point = next(point for point in tuning.points() if label(point) == chosen)
    return Choice(
        chosen,
        scores,
        tuple(name for name, value in point.items() if _is_border(value, [each[name] for each in tried])),
    )


def _is_border(value: Any, values: Sequence[Any]) -> bool:
    return _are_numbers(values) and value in (min(values), max(values))


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)


def _mean(values: Sequence[float | None]) -> float | None:
    known = all(value is not None and math.isfinite(value) for value in values)
    return sum(values) / len(values) if known else None
