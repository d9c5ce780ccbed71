"""Where the time of a step goes, beside that of another one."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from torch.profiler import ProfilerActivity, profile

from mtl_plugins.experiments.measuring.timing import TrainingStep

Profile = Mapping[str, float]
"""Milliseconds of a step by operator, without those that it calls."""


def profile_steps(systems: Iterable[TrainingStep], rounds: int = 5) -> dict[str, Profile]:
    """Profiles on the CPU by the systems' labels, the median over the rounds; steps are taken in turn."""
    found: dict[str, list[Profile]] = {}
    for _ in range(rounds):
        for system in systems:
            with profile(activities=[ProfilerActivity.CPU]) as measured:
                system.step()
            spent = {event.key: event.self_cpu_time_total / 1000 for event in measured.key_averages()}
            found.setdefault(system.label, []).append(spent)
    return {label: _median(profiles) for label, profiles in found.items()}


def _median(profiles: list[Profile]) -> Profile:
    names = {name for each in profiles for name in each}
    return {name: statistics.median(each.get(name, 0.0) for each in profiles) for name in names}


def differences(ours: Profile, other: Profile, most: int = 5) -> str:
    """The operators that take most more, or less, time in a step of ours, and how long the whole steps take."""
    more = {name: ours.get(name, 0.0) - other.get(name, 0.0) for name in {*ours, *other}}
    largest = sorted(more, key=lambda name: -abs(more[name]))[:most]
    return f'{sum(ours.values()):.0f} against {sum(other.values()):.0f} ms: ' + ', '.join(
        f'{name} {more[name]:+.1f}' for name in largest
    )
