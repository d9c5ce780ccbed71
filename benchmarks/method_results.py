"""What the benchmark of the methods found: a table, and the checks against the targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from mtl_plugins.experiments.measuring.timing import Spread, Times, ratio

from .results import Check

TARGET_TASKS = (4, 11)
HAND = {'rows': 'by hand, K rows', 'features': 'by hand, features'}
TIME_TO_GD = {'gd': None, 'uw': 1.10, 'mgda features': 1.15, 'famo': 1.50}
TIME_TO_HAND = 1.03
# For the numbers per task, and vectors of K of them, which the bound on memory does not mention.
SLACK = 0.01
PEERS = ('torchjd', 'libmtl')
# Figures of one network and number of tasks: see benchmarks/methods.py.
Setting = Mapping[str, Any]


def flop_floor(family: str, parts: Mapping[str, int], num_tasks: int, row_length: int) -> tuple[int, int]:
    """Least FLOPs of a step, and that with the products of all pairs of rows, which some steps make and some count.

    Args:
        family: See :class:`benchmarks.method_systems.MethodSystem`.
        parts: FLOPs of ``'gd'``, of a ``'forward'`` without graph, and of a ``'backward'`` through the backbone alone.
        num_tasks: K.
        row_length: Parameters or features in a row.
    """
    more = {
        'sum': 0, 'probe': parts['forward'], 'features': 0, 'rows': (num_tasks - 1) * parts['backward'],
        'gramian': num_tasks * parts['backward'],
    }[family]  # fmt: skip
    floor = parts['gd'] + more
    return floor, floor + (2 * num_tasks**2 * row_length if family in ('features', 'rows', 'gramian') else 0)


def check_setting(setting: Setting) -> list[Check]:
    """The targets that one network and number of tasks is held to."""
    checks = list(_check_flops(setting))
    if setting['num_tasks'] in TARGET_TASKS:
        checks += [*_check_memory(setting), *_check_time(setting)]
    return checks


def _ours(setting: Setting, family: str | None = None) -> list[str]:
    return [
        name
        for name, system in setting['systems'].items()
        if system['ours'] and (family is None or system['family'] == family)
    ]


def _where(setting: Setting) -> str:
    return f'{setting["network"]} K={setting["num_tasks"]}'


def _check_flops(setting: Setting) -> Iterator[Check]:
    for name in _ours(setting):
        system = setting['systems'][name]
        length = setting['num_features'] if system['family'] == 'features' else setting['num_shared']
        least, most = flop_floor(system['family'], setting['flops'], setting['num_tasks'], length)
        yield Check(
            f'{_where(setting)} {name}: FLOPs at the floor {least} (up to {most} with the products of the rows)',
            str(system['flops']),
            least <= system['flops'] <= most,
        )


def _check_memory(setting: Setting) -> Iterator[Check]:
    systems, tasks = setting['systems'], setting['num_tasks']
    for name in _ours(setting):
        if systems[name]['family'] == 'features':
            continue  # no target; its rows are features, which may be longer than the parameters
        if systems[name]['family'] == 'gramian':  # its formula: tests/engine/test_gramian_memory.py
            rows_peak = systems['upgrad']['peak_bytes']
            found = f'{systems[name]["peak_bytes"] / 2**20:.1f} against {rows_peak / 2**20:.1f} MiB'
            target = f'{_where(setting)} {name}: peak memory < upgrad'
            yield Check(target, found, systems[name]['peak_bytes'] < rows_peak)
            continue
        rows = setting['num_shared'] if systems[name]['family'] == 'rows' else 0
        limit = systems['gd']['peak_bytes'] + 4 * tasks * rows
        peak = systems[name]['peak_bytes']
        target = (
            f'{_where(setting)} {name}: peak memory <= gd + 4 bytes x K x D = {limit / 2**20:.1f} MiB, to {SLACK:.0%}'
        )
        yield Check(target, f'{peak / 2**20:.1f} MiB', peak <= (1 + SLACK) * limit)
        if tasks < max(TARGET_TASKS) or systems[name]['family'] != 'rows':
            continue
        for peer in (peer for peer in systems if peer.startswith('torchjd') and systems[peer]['family'] == 'rows'):
            least = systems[peer]['peak_bytes']
            found = f'{peak / 2**20:.1f} against {least / 2**20:.1f} MiB'
            yield Check(f'{_where(setting)} {name}: peak memory < {peer}', found, peak < least)


def _check_time(setting: Setting) -> Iterator[Check]:
    times: Times = setting['times']
    for name in _ours(setting):
        if name not in times:
            continue
        limits = {'gd': TIME_TO_GD[name]} if TIME_TO_GD.get(name) else {}
        if setting['systems'][name]['family'] == 'rows':
            limits = {HAND['rows']: TIME_TO_HAND}
            for peer in (peer for peer in times if peer.startswith(PEERS)):
                if setting['systems'][peer]['family'] == 'rows':
                    found = ratio(times, name, peer, 'cpu')
                    target = f'{_where(setting)} {name}: time <= 1.00 x {peer} (lower quartile)'
                    yield Check(target, str(found), found.low <= 1.0, (name, peer))
        for reference, limit in limits.items():
            found = ratio(times, name, reference, 'cpu')
            target = f'{_where(setting)} {name}: time <= {limit:.2f} x {reference}'
            yield Check(target, str(found), found.median <= limit, (name, reference))


def make_table(setting: Setting) -> Table:
    """The figures of one network and number of tasks."""
    systems, times = setting['systems'], setting['times']
    table = Table(
        title=f'{_where(setting)}: {setting["image_size"]} x {setting["image_size"]}, batch {setting["batch_size"]}',
        title_justify='left',
    )
    table.add_column('step')
    for heading in ('time / gd', 'time / by hand', 'FLOPs / gd', 'peak MiB', 'above gd', '4 K row'):
        table.add_column(heading, justify='right')
    for name, system in systems.items():
        family = system['family']
        length = {'rows': setting['num_shared'], 'features': setting['num_features']}.get(family, 0)
        hand = HAND.get(family)
        timed = name in times and 'gd' in times
        table.add_row(
            name,
            str(ratio(times, name, 'gd', 'cpu')) if timed and name != 'gd' else _seconds(times, name),
            str(ratio(times, name, hand, 'cpu')) if timed and hand in times and name != hand else '',
            f'{system["flops"] / systems["gd"]["flops"]:.3f}',
            f'{system["peak_bytes"] / 2**20:.1f}',
            f'{(system["peak_bytes"] - systems["gd"]["peak_bytes"]) / 2**20:+.1f}',
            f'{4 * setting["num_tasks"] * length / 2**20:.1f}' if length else '',
        )
    return table


def _seconds(times: Times, name: str) -> str:
    return f'{Spread.of([each["cpu"] for each in times[name]]).median:.3f} s' if name in times else '-'
