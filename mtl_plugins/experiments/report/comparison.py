"""A whole comparison: its variants, what they are measured against, and what is not there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtl_plugins.errors import UserError

from ..compare.records import Key
from ..compare.variants import SINGLE
from .results import Reference, Run, Task, Variant, make_run
from .statistics import NAN, Difference, Sample, difference

MATCH = 1.25
"""Two amounts of compute count as equal up to this factor."""


@dataclass(frozen=True)
class Pair:
    """A variant beside ordinary training.

    Args:
        variant: The variant.
        equal_batches: Ordinary training on as many batches, one pass each; None if there is none.
        equal_compute: The ordinary training of nearest compute; None if there is none.
    """

    variant: Variant
    equal_batches: Variant | None
    equal_compute: Variant | None

    @property
    def over_batches(self) -> Difference:
        """Difference in delta_m at equal batches."""
        return _difference(self.variant, self.equal_batches)

    @property
    def over_compute(self) -> Difference:
        """Difference in delta_m to the ordinary training of nearest compute."""
        return _difference(self.variant, self.equal_compute)

    @property
    def compute_ratio(self) -> float:
        """Compute of that ordinary training in units of that of the variant."""
        return NAN if self.equal_compute is None else self.equal_compute.compute / self.variant.compute

    @property
    def matched(self) -> bool:
        """Whether the two took about the same compute."""
        return 1 / MATCH <= self.compute_ratio <= MATCH


class Comparison:
    """What a report is made of.

    Args:
        header: Of the results file.
        records: The finished runs.
        expected: Keys of the runs that were asked for.
        errors: Why runs failed.

    Raises:
        ValueError: If there is no finished run of a variant.
    """

    def __init__(
        self,
        header: Mapping[str, Any],
        records: Mapping[Key, Mapping[str, Any]],
        expected: Sequence[Key] = (),
        errors: Mapping[Key, str] | None = None,
    ) -> None:
        self.config = header['config']
        self.max_iters = header['max_iters']
        parts = ('title', 'metric', 'unit', 'higher_is_better')
        self.tasks = [Task(key, *(entry[part] for part in parts)) for key, entry in header['tasks'].items()]
        self.errors = {key: text for key, text in (errors or {}).items() if key not in records}
        self.missing = [key for key in expected if key not in records and key not in self.errors]
        self.seeds = sorted({seed for name, seed, _ in records if name != SINGLE})
        self.single = self._single_task_runs(records)
        self.reference = self._find_reference(records)
        names = list(dict.fromkeys(name for name, _, _ in records if name != SINGLE))
        if not names:
            raise UserError('there is no finished run of a method to report on; train at least one first')
        # Best first; those without a score behind, by name.
        self.variants = sorted((self._variant(name, records) for name in names), key=_rank)
        self.environments = [record.get('environment') or {} for record in records.values()]

    @property
    def score_name(self) -> str:
        """What results are ranked by."""
        return self.reference.name if self.reference else 'delta_m'

    def variant(self, name: str) -> Variant:
        """The variant called ``name``."""
        return next(variant for variant in self.variants if variant.name == name)

    @property
    def single_compute(self) -> float:
        """Compute of all single-task models together; NaN if some task has none."""
        if any(not runs for runs in self.single.values()):
            return NAN
        return sum(Sample.of(run.last.compute for run in runs).mean for runs in self.single.values())

    def front(self) -> list[str]:
        """Names of the variants that no other beats in mean delta_m with as little compute, by rising compute."""
        known = [v for v in self.variants if math.isfinite(v.compute) and math.isfinite(v.score.mean)]
        best, names = -math.inf, []
        for variant in sorted(known, key=lambda v: (v.compute, -v.score.mean, v.name)):
            if variant.score.mean > best:
                best = variant.score.mean
                names.append(variant.name)
        return names

    def pairs(self) -> list[Pair]:
        """Each variant that is not ordinary training, beside ordinary training."""
        ordinary = [variant for variant in self.variants if variant.ordinary]
        return [self._pair(variant, ordinary) for variant in self.variants if not variant.ordinary]

    def _pair(self, variant: Variant, ordinary: Sequence[Variant]) -> Pair:
        same = [other for other in ordinary if other.passes == 1 and other.iterations == variant.iterations]
        # The plain preset first, in case there are others with one pass.
        same.sort(key=lambda other: (len(other.options), other.name))
        known = [other for other in ordinary if math.isfinite(other.compute / variant.compute)]
        known.sort(key=lambda other: (abs(math.log(other.compute / variant.compute)), len(other.options), other.name))
        return Pair(variant, same[0] if same else None, known[0] if known else None)

    def _single_task_runs(self, records: Mapping[Key, Mapping[str, Any]]) -> dict[str, list[Run]]:
        return {
            task.key: [
                make_run(record, self.tasks)
                for (name, _, own), record in sorted(records.items(), key=_key_order)
                if name == SINGLE and own == task.key
            ]
            for task in self.tasks
        }

    def _find_reference(self, records: Mapping[Key, Mapping[str, Any]]) -> Reference | None:
        if any(self.single.values()):
            samples = {task: Sample.of(run.last.values[task] for run in runs) for task, runs in self.single.items()}
            # Over fewer tasks, or against something else for some, it would be another quantity.
            complete = all(sample.mean and math.isfinite(sample.mean) for sample in samples.values())
            return Reference('single-task models', True, samples) if complete else None
        plain = [make_run(r, self.tasks) for r in records.values() if r['method'] == 'gd' and not r['options']]
        if not plain:
            return None
        samples = {task.key: Sample.of(run.last.values[task.key] for run in plain) for task in self.tasks}
        complete = all(sample.mean and math.isfinite(sample.mean) for sample in samples.values())
        return Reference('ordinary training', False, samples) if complete else None

    def _variant(self, name: str, records: Mapping[Key, Mapping[str, Any]]) -> Variant:
        own = [record for key, record in sorted(records.items(), key=_key_order) if key[0] == name]
        runs = [make_run(record, self.tasks) for record in own]
        return Variant(name, own[0]['method'], own[0]['options'], runs, self.tasks, self.reference)


def expected_keys(
    records: Mapping[Key, Any], tasks: Sequence[str], names: Sequence[str], seeds: Sequence[int] | None, single: bool
) -> list[Key]:
    """The runs that should be there.

    Args:
        records: Those that are.
        tasks: All tasks.
        names: Variants that were asked for. Empty: with ``seeds``, all of the records; without, any number of runs will
            do, because it may be intended that variants have different seeds.
        seeds: Seeds that were asked for; None: all of the records.
        single: Whether single-task models were asked for.
    """
    found = list(dict.fromkeys(name for name, _, _ in records if name != SINGLE))
    names = names or (found if seeds else [])
    single_seeds = seeds or sorted({seed for name, seed, _ in records if name == SINGLE})
    seeds = seeds or sorted({seed for name, seed, _ in records if name != SINGLE})
    singles = [(SINGLE, seed, task) for seed in single_seeds for task in tasks] if single else []
    return [*singles, *((name, seed, None) for name in names for seed in seeds)]


def _difference(variant: Variant, other: Variant | None) -> Difference:
    return Difference(NAN, None) if other is None else difference(variant.score, other.score)


def _rank(variant: Variant) -> tuple[bool, float, str]:
    mean = variant.score.mean
    return (False, -mean, variant.name) if math.isfinite(mean) else (True, 0.0, variant.name)


def _key_order(item: tuple[Key, Any]) -> tuple[str, int, str]:
    name, seed, task = item[0]
    return name, seed, task or ''
