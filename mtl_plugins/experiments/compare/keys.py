"""What tells the runs of a comparison apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple


class Key(NamedTuple):
    """A run.

    Attributes:
        variant: Name of the variant, or that of the single-task models.
        seed: Its seed.
        task: The task of a single-task model, else None.
        at: The tuned settings that it was made with, as :func:`label` writes them; empty for those of the config.
        tuning: Whether it was trained without the part of the training set that is held out, and scored on that.
    """

    variant: str
    seed: int
    task: str | None = None
    at: str = ''
    tuning: bool = False

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Key:
        """The key of a record, or of a failure."""
        at = record.get('at') or {}
        at = at if isinstance(at, str) else label(at)
        return cls(record['variant'], record['seed'], record.get('task'), at, bool(record.get('tuning')))

    def order(self) -> tuple[Any, ...]:
        """By this keys are sorted."""
        return self.variant, self.tuning, self.at, self.seed, self.task or ''


def label(settings: Mapping[str, Any]) -> str:
    """Tuned settings in one text, ``'optimizer.lr=0.001'``; equal settings give equal texts."""
    return ', '.join(f'{name}={json.dumps(value, default=str)}' for name, value in sorted(settings.items()))


def describe_key(key: Key | tuple[str, int, str | None]) -> str:
    """A run in words."""
    key = Key(*key)
    at = f' at {key.at}' * bool(key.at) + ' on the held-out part' * key.tuning
    return f'{key.variant}{f" ({key.task})" if key.task else ""}{at}, seed {key.seed}'
