"""Which runs a comparison needs, as far as that is known by those that are finished."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from mtl_plugins.config.numbers import settle_numbers
from mtl_plugins.config.places import enter_scope
from mtl_plugins.engine.optim_wrappers import MultiTaskOptimWrapper, StepOptimWrapper
from mtl_plugins.engine.optim_wrappers.rows import TaskGradientOptimWrapper
from mtl_plugins.errors import UserError, refusing
from mtl_plugins.registry import DATASETS

from .keys import Key, label
from .length import compute_of, stretch
from .plan import ComparisonRun, single_task_run, variant_run
from .records import RecordStore
from .tuning import Tuning, held_out_parts, hold_out
from .variants import LENGTHS, SINGLE, Variant, ordered, reference
from .views import choices, shared_settings, tuning_of

_STEADY = (MultiTaskOptimWrapper, TaskGradientOptimWrapper)
"""Wrappers whose batches all take the same, known before training."""


class Trained(NamedTuple):
    """A variant without references, and how many times as long as the config says it is trained."""

    variant: Variant
    factor: float


class Plan:
    """The runs of a comparison.

    Args:
        cfg: The config that is compared.
        variants: The variants.
        seeds: Seeds of the runs that are reported.
        root: Folder of all runs.
        store: What is finished.
        single: Whether single-task models are trained beside.
        tuning: How settings are chosen; None takes those of the config.

    Raises:
        UserError: If a variant has options that its method does not take or cannot use, or refers to what cannot be
            known.
    """

    def __init__(
        self,
        cfg: Config,
        variants: Sequence[Variant],
        seeds: Sequence[int],
        root: Path,
        store: RecordStore,
        single: bool,
        tuning: Tuning | None = None,
    ) -> None:
        self.cfg, self.variants, self.seeds, self.root, self.store = cfg, ordered(variants), seeds, root, store
        self.tuning = tuning
        self._wrappers = {variant.name: self._build_wrapper(variant) for variant in variants}
        for variant in variants:
            self._check_references(variant)
        if tuning is not None:
            self._check_hold_out(tuning)
            store.tuning = tuning.joined(tuning_of(store)).as_dict()
        self._subjects: list[tuple[Variant, str | None]] = [(variant, None) for variant in self.variants]
        if single:
            self._subjects = [(Variant(SINGLE, 'gd'), task) for task in store.header['tasks']] + self._subjects

    def runs(self, tried: Collection[Key] = ()) -> list[ComparisonRun]:
        """All runs that can be planned with what is finished: those that choose settings first, then seed by seed.

        Args:
            tried: Keys of runs that failed and are not waited for.

        Raises:
            ValueError: If the config of a run is refused.
        """
        found: list[ComparisonRun] = []
        for variant, task in self._subjects:
            resolved = self._resolve(variant, tried)
            if resolved is None:
                continue
            points: list[dict[str, Any]] = [{}]
            if self.tuning is not None and self.tuning.concerns(variant):
                trials = [
                    self._run(resolved, task, seed, point, self.tuning.share)
                    for point in self.tuning.points()
                    for seed in self.tuning.seeds
                ]
                found += trials
                if any(self._is_open(run.key, tried) for run in trials):
                    continue
                chosen = choices(self.store).get((variant.name, task))
                shared = '' if task or self.tuning.shared is None else shared_settings(self.store)
                wanted = {chosen.at if chosen else '', shared} - {''}
                points = [point for point in tuning_of(self.store).points() if label(point) in wanted]
            found += [self._run(resolved, task, seed, point, None) for point in points for seed in self.seeds]
        return sorted(found, key=lambda run: (not run.key.tuning, run.key.seed))

    def _is_open(self, key: Key, tried: Collection[Key]) -> bool:
        return key not in self.store.records and key not in tried

    def _run(
        self, trained: Trained, task: str | None, seed: int, at: dict[str, Any], share: float | None
    ) -> ComparisonRun:
        if task is not None:
            return single_task_run(self.cfg, task, seed, self.root, self.store, at, share)
        return variant_run(self.cfg, trained.variant, seed, self.root, self.store, at, share, trained.factor)

    # ------------------------------------------------------------------ references
    def _resolve(self, variant: Variant, tried: Collection[Key]) -> Trained | None:
        """The variant with numbers for its references, and its length; None as long as they are not known."""
        given = variant.options
        twin = self._twin(variant)
        if not variant.references and twin is None:
            return Trained(variant, given['compute'] / self._cost(variant) if 'compute' in given else 1.0)
        entry = self.store.resolved.get(variant.name) or self._of_former_program(variant)
        if entry is None:
            needed = {name: self._finished(name, tried) for name in (*variant.references, *([twin] if twin else []))}
            if not all(needed.values()):
                return None
            entry = self._settle(variant, needed, needed[twin] if twin else [])
            self.store.resolved[variant.name] = entry
            self.store.save()
        if entry['given'] != given:
            raise UserError(
                f'{self.store.path} holds runs of {variant.name} as {variant.method}{entry["given"]}, now it is '
                f'{variant.method}{given}; give it another name'
            )
        return Trained(Variant(variant.name, variant.method, entry['options']), entry['factor'])

    def _settle(self, variant: Variant, needed: Mapping[str, Sequence[Any]], twins: Sequence[Any]) -> dict[str, Any]:
        options, factor = dict(variant.options), 1.0
        for name, value in options.items():
            found = reference(value)
            runs = needed[found.name] if found else []
            if name == 'compute':
                amount = found.factor * _mean(runs, _compute) / self.store.header['max_iters'] if found else value
                options[name] = round(amount, 4)
                pace = _mean(twins, lambda run: _compute(run) / run['curve'][-1]['iter']) if twins else None
                factor = options[name] / (pace or self._cost(variant))
            elif name == 'time':
                _check_machines(variant.name, [*runs, *twins])
                pace = _mean(twins, lambda run: _seconds(run) / run['curve'][-1]['iter'])
                factor = found.factor * _mean(runs, _seconds) / (pace * self.store.header['max_iters'])
                options[name] = factor = round(factor, 4)
            elif found:
                options[name] = max(1, round(found.factor * _mean(runs, _groups)))
        return dict(given=dict(variant.options), options=options, factor=factor)

    def _of_former_program(self, variant: Variant) -> dict[str, Any] | None:
        """What files say that hold the outcome of references alone, which then were numbers of passes."""
        records = (self.store.records.get(Key(variant.name, seed)) for seed in self.seeds)
        found = next((record['options'] for record in records if record), None)
        if found is None or any(name in LENGTHS for name in found):
            return None
        return dict(given=variant.options, options=found, factor=1.0)

    def _finished(self, name: str, tried: Collection[Key]) -> list[Mapping[str, Any]] | None:
        """The runs of a variant at its own settings; None before all that can be are finished, and if none is."""
        variant = next(variant for variant in self.variants if variant.name == name)
        at = ''
        if self.tuning is not None and self.tuning.concerns(variant):
            trials = [Key(name, s, None, label(p), True) for p in self.tuning.points() for s in self.tuning.seeds]
            if any(self._is_open(key, tried) for key in trials):
                return None
            at = choices(self.store)[name, None].at if (name, None) in choices(self.store) else ''
        keys = [Key(name, seed, None, at) for seed in self.seeds]
        if any(self._is_open(key, tried) for key in keys):
            return None
        return [self.store.records[key] for key in keys if key in self.store.records] or None

    def _twin(self, variant: Variant) -> str | None:
        """The variant whose runs tell what an iteration of this one takes; None if that is known without.

        Raises:
            UserError: If it is needed and not there.
        """
        if 'time' not in variant.options and ('compute' not in variant.options or self._cost(variant) is not None):
            return None
        for other in self.variants:
            if other.method == variant.method and other.options == variant.settings:
                return other.name
        plain = ','.join(f'{name}={value}' for name, value in variant.settings.items())
        raise UserError(
            f'methods: {variant.name} needs {variant.method}{f"[{plain}]" if plain else ""} among the methods, whose '
            f'runs tell what one of its iterations takes'
        )

    def _cost(self, variant: Variant) -> float | None:
        """Compute of an iteration of a variant, in those of ordinary training; None if only its runs tell."""
        wrapper = self._wrappers[variant.name]
        return wrapper.cost_per_batch().relative if isinstance(wrapper, _STEADY) else None

    # ------------------------------------------------------------------ checks
    def _build_wrapper(self, variant: Variant) -> StepOptimWrapper:
        """The wrapper of a variant; what its method does not take or cannot use is refused."""
        tuned = self.tuning is not None and self.tuning.concerns(variant)
        numbers = {name: 1 if reference(value) else value for name, value in variant.options.items()}
        for point in self.tuning.points() if tuned else [{}]:
            with refusing(f'methods: {variant.name}{f" at {label(point)}" if point else ""}'):
                trained = Variant(variant.name, variant.method, numbers)
                cfg = variant_run(self.cfg, trained, 0, self.root, self.store, point).cfg
                settle_numbers(cfg)
                # Without what only a model can be divided by.
                settings = {k: v for k, v in cfg.optim_wrapper.items() if k not in ('constructor', 'paramwise_cfg')}
                settings.setdefault('tasks', list(self.store.header['tasks']))
                wrapper = build_optim_wrapper(nn.Linear(1, 1), Config(dict(wrapper=settings)).wrapper)
        return wrapper

    def _check_references(self, variant: Variant) -> None:
        self._twin(variant)
        if any(name in LENGTHS for name in variant.options):  # schedules that cannot be stretched
            with refusing(f'methods: {variant.name}'):
                stretch(Config(self.cfg.to_dict()), 2.0)
        for name, value in variant.options.items():
            found = reference(value)
            if found and name not in LENGTHS and isinstance(self._wrappers[found.name], _STEADY):
                raise UserError(
                    f'methods: {name} of {variant.name} is @{found.name}, but the runs of {found.name} have no groups '
                    f'to count; for as much compute write compute=@{found.name}'
                )

    def _check_hold_out(self, tuning: Tuning) -> None:
        enter_scope(self.cfg)
        with refusing('--tune-on'):
            for part in held_out_parts(hold_out(self.cfg, tuning.share)):
                DATASETS.build({**part, 'dataset': {**part['dataset'], 'pipeline': []}})


def _mean(records: Sequence[Mapping[str, Any]], number: Callable[[Mapping[str, Any]], float]) -> float:
    """Mean of a number over runs.

    Raises:
        UserError: If it is not above 0 for some run.
    """
    values = [number(record) for record in records]
    if not all(value > 0 for value in values):
        name = records[0]['variant']
        raise UserError(f'methods: @{name} cannot be resolved, because a run of {name} did not count what it took')
    return sum(values) / len(values)


def _check_machines(name: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to divide the seconds of one machine by those of another."""
    machines = {label({'': (record.get('environment') or {}).get('hardware')}) for record in records}
    if len(machines) > 1:
        raise UserError(
            f'methods: the time of {name} cannot be settled, because the runs that it refers to were made on different '
            'machines; write compute=@NAME, or make these runs anew on one machine, with another --results'
        )


def _cost_of(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return record['curve'][-1]['cost'] or {}


def _compute(record: Mapping[str, Any]) -> float:
    return compute_of(_cost_of(record))


def _seconds(record: Mapping[str, Any]) -> float:
    return _cost_of(record).get('seconds') or 0.0


def _groups(record: Mapping[str, Any]) -> float:
    if record.get('groups'):
        return record['groups']['mean']
    return (_cost_of(record).get('backwards') or 0) / record['curve'][-1]['iter']
