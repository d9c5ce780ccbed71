"""Which runs of a comparison stand beside each other: at the settings of each variant's own, or at shared ones."""

from collections.abc import Mapping
from typing import Any

from .keys import Key
from .records import RecordStore
from .tuning import Choice, Tuning, choose

Shown = tuple[str, int, str | None]
"""Variant, seed and task."""


def tuning_of(store: RecordStore) -> Tuning | None:
    """How the settings of a comparison are tuned; None if they are not."""
    return None if store.tuning is None else Tuning(**store.tuning)


def choices(store: RecordStore) -> dict[tuple[str, str | None], Choice]:
    """What tuning came to for each variant, and each single-task model, that has runs on the held-out part."""
    tuning = tuning_of(store)
    subjects = dict.fromkeys((key.variant, key.task) for key in sorted(store.records, key=Key.order) if key.tuning)
    if tuning is None:
        return {}
    tasks = store.header['tasks']
    # A single-task model of a task that is not compared cannot be scored.
    subjects = [(name, task) for name, task in subjects if task is None or task in tasks]
    records = {**dict.fromkeys(store.failures), **store.records}
    return {subject: choose(records, *subject, tuning, tasks) for subject in subjects}


def shared_settings(store: RecordStore) -> str:
    """The settings that all variants are compared at, too; empty if there are none."""
    tuning = tuning_of(store)
    found = None if tuning is None else choices(store).get((tuning.shared, None))
    return found.at if found else ''


def view(store: RecordStore, shared: bool = False) -> tuple[dict[Shown, Mapping[str, Any]], dict[tuple, str]]:
    """The runs on the whole training set, one per variant, seed and task, which are their keys.

    Args:
        store: All runs.
        shared: Variants at the shared settings, instead of at those chosen for each. Single-task models, the reference
            of both views, and variants that are not tuned are the same in both.

    Returns:
        The records, and why other runs failed; of the former, runs at other settings are left out.
    """
    own = {subject: choice.at for subject, choice in choices(store).items()}
    common = shared_settings(store) if shared else ''

    def shown(key: Key) -> bool:
        wanted = own.get((key.variant, key.task), '')
        if shared and key.task is None and (key.variant, None) in own:
            wanted = common
        return not key.tuning and key.at == wanted

    records = {key[:3]: record for key, record in store.records.items() if shown(key)}
    return records, {key[:3] if shown(key) else tuple(key): error for key, error in store.failures.items()}
