"""The runs of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from mtl_plugins.config.loading import set_method
from mtl_plugins.errors import UserError, refusing
from mtl_plugins.experiments.baselines import headline, single_task_config
from mtl_plugins.experiments.runs import TrainingRun, decisive_settings
from mtl_plugins.task_specs import get_task_spec

from .records import Key, RecordStore, describe_key, fingerprint, make_record
from .variants import SINGLE, Variant, file_name


class ComparisonRun(TrainingRun):
    """One training of a comparison; its record goes into the store when it ends.

    Args:
        key: Variant, seed, and the task of a single-task model.
        variant: The method, None for a single-task model.
        cfg: Config of the run.
        root: Folder of all runs.
        store: Where the record goes.
    """

    what = 'a run'

    def __init__(self, key: Key, variant: Variant | None, cfg: Config, root: Path, store: RecordStore) -> None:
        name, seed, task = key
        folder = Path(root, *filter(None, [file_name(name), task]), f'seed_{seed}')
        self._config = folder / 'config' / f'{file_name(name)}_seed_{seed}.py'
        super().__init__(describe_key(key), folder, cfg, [str(self._config)])
        self.key = key
        self.variant = variant
        self.store = store
        self.settings = fingerprint(decisive_settings(cfg))

    def prepare(self) -> None:
        """Write the config of the run; see :meth:`TrainingRun.prepare`."""
        super().prepare()
        self._config.parent.mkdir(parents=True, exist_ok=True)
        self.cfg.dump(str(self._config))

    def record(self) -> dict[str, Any] | None:
        """The record in the store, or None.

        Raises:
            ValueError: If the store holds the run with other settings.
        """
        return self.store.get(self.key, self.settings)

    def finished(self) -> bool:
        """Whether the record is there."""
        return self.record() is not None

    def outcome(self) -> str:
        """The headline metrics."""
        last = self.record()['curve'][-1]['metrics']
        return ', '.join(f'{name} {value:.4g}' for name, value in last.items() if value is not None)

    def conclude(self) -> str:
        """Add the record to the store; returns why there is none."""
        problem = super().conclude()
        if not problem:
            method, options = ('gd', {}) if self.variant is None else (self.variant.method, self.variant.options)
            headlines = {entry['metric'] for entry in self.store.header['tasks'].values()}
            self.store.add(make_record(self.key, method, options, self.settings, self.folder, headlines))
        return problem


def comparison_header(cfg: Config, config: str) -> dict[str, Any]:
    """What all runs of a comparison have in common, see :class:`RecordStore`.

    Raises:
        ValueError: If the config has no heads to compare, no validation, or no length.
    """
    tasks = list((cfg.get('model') or {}).get('heads') or {})
    max_iters = (cfg.get('train_cfg') or {}).get('max_iters')
    if not tasks or not cfg.get('val_evaluator') or not max_iters:
        raise UserError(
            f'{config} cannot be compared: it needs a model with heads=dict(<task>=...), a val_evaluator, and '
            'train_cfg.max_iters'
        )
    entries = {}
    for task in tasks:
        spec = get_task_spec(task)
        metric, higher_is_better = headline(cfg, task)
        entries[task] = dict(title=spec.title, metric=metric, unit=spec.unit, higher_is_better=higher_is_better)
    return dict(config=config, tasks=entries, max_iters=max_iters)


def single_task_runs(cfg: Config, seeds: Sequence[int], root: Path, store: RecordStore) -> list[ComparisonRun]:
    """One run per task and seed."""
    return [
        ComparisonRun((SINGLE, seed, task), None, single_task_config(cfg, task, seed), root, store)
        for seed in seeds
        for task in store.header['tasks']
    ]


def variant_run(
    cfg: Config, variant: Variant, seed: int, root: Path, store: RecordStore, groups: Callable[[str], float | None]
) -> ComparisonRun | None:
    """The run of a variant, None as long as a variant that it refers to is not finished.

    Args:
        cfg: The config that is compared.
        variant: The variant.
        seed: Seed of the run.
        root: Folder of all runs.
        store: Where the record goes.
        groups: Name of a variant -> its mean number of groups, or None as long as that is not known.

    Raises:
        ValueError: If the config that comes out is refused.
    """
    options: dict[str, Any] = {}
    for name, value in variant.options.items():
        if isinstance(value, str) and value.startswith('@'):
            mean = groups(value[1:])
            if mean is None:
                return None
            value = max(1, round(mean))
        options[name] = value
    cfg = Config(cfg.to_dict())
    set_method(cfg, variant.method)
    cfg.merge_from_dict({f'optim_wrapper.{name}': value for name, value in options.items()})
    cfg.randomness = {**(cfg.get('randomness') or {}), 'seed': seed}
    cfg.resume, cfg.launcher = False, 'none'
    cfg.pop('work_dir', None)
    resolved = Variant(variant.name, variant.method, options)
    return ComparisonRun((variant.name, seed, None), resolved, cfg, root, store)


def check_options(cfg: Config, variants: Iterable[Variant], root: Path, store: RecordStore) -> None:
    """Refuse options that a method does not take or cannot use, before hours go into the runs beside it.

    Raises:
        UserError: If one is; it names the variant.
    """
    for variant in variants:
        wrapper = variant_run(cfg, variant, 0, root, store, lambda name: 1.0).cfg.optim_wrapper
        if 'constructor' not in wrapper:  # such a one may want the model
            with refusing(f'methods: {variant.name}'):
                build_optim_wrapper(nn.Linear(1, 1), Config(dict(wrapper=wrapper)).wrapper)


def mean_groups(records: Mapping[Key, Mapping[str, Any]], name: str, seeds: Sequence[int]) -> float | None:
    """Mean number of groups of the runs of a variant over all ``seeds``; None before all are finished.

    Raises:
        ValueError: If the variant has no groups.
    """
    found = [records.get((name, seed, None)) for seed in seeds]
    if any(record is None for record in found):
        return None
    if any(record['groups'] is None for record in found):
        raise UserError(f'@{name}: the runs of {name} have no groups to count')
    return sum(record['groups']['mean'] for record in found) / len(found)
