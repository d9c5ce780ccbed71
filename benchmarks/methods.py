"""What multi-task methods cost per training step: our engine, steps written by hand, TorchJD and LibMTL, in one run.

All train one model (ViT-Tiny, or a small convolutional encoder; a 1x1 head per task) on the same random images and
targets. First it is made sure that every step that is not ours makes the same update as our engine; if not, nothing is
measured. Then FLOPs and peak memory are taken, and all steps are timed in turn: ratios within a round, as median (lower
-upper quartile) over the rounds, in CPU time of the process, one thread. Where a target on time is missed, a profile of
both steps says which operators take longer. Libraries that are not installed are left out:
pip install -c constraints.txt ".[benchmarks]"
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if __package__ in (None, ''):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
for _name, _value in dict(KINETO_LOG_LEVEL='99', TORCH_CPP_LOG_LEVEL='ERROR').items():
    os.environ.setdefault(_name, _value)

import torch  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from rich.console import Console  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import benchmarks.networks  # noqa: E402, F401 - registers the small encoder
from benchmarks.equality import UnequalUpdatesError  # noqa: E402
from benchmarks.method_equality import check_methods  # noqa: E402
from benchmarks.method_results import check_setting, make_table  # noqa: E402
from benchmarks.method_systems import (  # noqa: E402
    OURS,
    MethodSystem,
    Parts,
    build_hand,
    build_libmtl,
    build_ours,
    build_torchjd,
    torchjd_upgrads,
)
from benchmarks.peers import PeerMissingError, load_libmtl, load_torchjd  # noqa: E402
from benchmarks.profiles import differences, profile_steps  # noqa: E402
from benchmarks.workload import Workload  # noqa: E402
from mtl_plugins.experiments.measuring.memory import peak_memory  # noqa: E402
from mtl_plugins.experiments.measuring.timing import time_systems  # noqa: E402
from mtl_plugins.runtime.hooks.environment import collect_environment  # noqa: E402

NETWORKS = {
    'conv': dict(image_size=128, batch_size=2, backbone=dict(type='mtl_plugins.BenchmarkConvEncoder')),
    'vit': dict(image_size=224, batch_size=2),
}
FAMILIES = ('sum', 'probe', 'features', 'rows', 'gramian')
# Counted, but not timed: they differ from UPGrad in the algebra of K x K numbers alone (benchmarks/aggregators.py).
NOT_TIMED = ('mean', 'mgda')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Exit code: 0 if all targets are met, 1 if one is missed, 2 if the comparison is void. About 20 minutes '
        'on one core.',
    )  # fmt: skip
    parser.add_argument('--networks', nargs='+', choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument('--num-tasks', type=int, nargs='+', default=[4, 11, 2, 8], metavar='K')
    parser.add_argument('--image-size', type=int, help='side of the images; default 128 for conv, 224 for vit')
    parser.add_argument('--batch-size', type=int, help='images per batch; default 2')
    parser.add_argument('--rounds', type=int, default=30, help='timed rounds; 0 counts only (default: %(default)s)')
    parser.add_argument('--warmup', type=int, default=1, help='rounds before them (default: %(default)s)')
    parser.add_argument('--out', type=Path, help='JSON file; settings that it holds already are not measured again')
    args = parser.parse_args(argv)
    if args.rounds < 0 or args.rounds == 1:
        parser.error(f'--rounds must be 0 or at least 2, but got {args.rounds}')
    return args


def workloads(args: argparse.Namespace) -> dict[str, Workload]:
    """The settings by name, in the order in which they are measured."""
    given = dict(image_size=args.image_size, batch_size=args.batch_size)
    given = {name: value for name, value in given.items() if value is not None}
    return {
        f'{network} K={num_tasks}': Workload(num_tasks, **{**NETWORKS[network], **given})
        for num_tasks in args.num_tasks
        for network in args.networks
    }


def load_peers(console: Console) -> dict[str, SimpleNamespace | None]:
    """The other libraries; None, and a line that says why, for those that are not there."""
    found: dict[str, SimpleNamespace | None] = {}
    for name, load in (('torchjd', load_torchjd), ('libmtl', load_libmtl)):
        try:
            found[name] = load()
            console.print(f'{name} {found[name].version}', highlight=False)
        except PeerMissingError as error:
            found[name] = None
            console.print(f'[yellow]{error}[/yellow]', highlight=False)
    return found


def build_all(work: Workload, batch: dict[str, Any], peers: dict[str, SimpleNamespace | None]) -> list[MethodSystem]:
    """All steps; those that are compared lie side by side, so that a ratio is of two steps of the same seconds."""
    systems = [build_ours(name, work, batch) for name in OURS]
    systems += [build_hand(features, work, batch) for features in (True, False)]
    if peers['torchjd'] is not None:
        systems += [build_torchjd(method, peers['torchjd'], work, batch) for method in ('famo', *torchjd_upgrads(work))]
    if peers['libmtl'] is not None:
        systems += [build_libmtl(method, peers['libmtl'], work, batch) for method in ('UW', 'PCGrad')]
    return sorted(systems, key=lambda system: FAMILIES.index(system.family))


def count_flops(call: Callable[[], Any]) -> int:
    """FLOPs of the matrix products and convolutions in a call."""
    with FlopCounterMode(display=False) as flops:
        call()
    return int(flops.get_total_flops())


def flop_parts(work: Workload, batch: dict[str, Any]) -> dict[str, int]:
    """FLOPs of gd's forward and backward, of a forward without graph, and of a backward through the backbone alone."""
    parts = Parts(work.build_model(), batch)
    gd = count_flops(lambda: sum(parts.losses()).backward())
    with torch.no_grad():
        forward = count_flops(parts.losses)
    features = parts.losses_and_features()[1]
    backward = count_flops(lambda: torch.autograd.grad(features.sum(), parts.shared))
    return dict(gd=gd, forward=forward, backward=backward)


def measure(
    network: str, work: Workload, peers: dict[str, SimpleNamespace | None], rounds: int, warmup: int
) -> dict[str, Any]:
    """All figures of one setting.

    Raises:
        UnequalUpdatesError: If a step makes another update than ours.
    """
    batch = work.make_batch()
    differences = check_methods(work, batch, **peers)
    systems = build_all(work, batch, peers)
    found: dict[str, Any] = {}
    for system in systems:
        system.step()  # states of the optimizers, and the first look at the graph
        found[system.label] = dict(
            ours=system.is_ours, family=system.family, flops=count_flops(system.step), peak_bytes=peak_memory(system)
        )
    parts = Parts(systems[0].model, batch)
    times = time_systems([s for s in systems if s.label not in NOT_TIMED], rounds, warmup) if rounds else {}
    return dict(
        network=network, num_tasks=work.num_tasks, image_size=work.image_size, batch_size=work.batch_size,
        rounds=rounds, num_shared=sum(parts.sizes), num_features=parts.losses_and_features()[1].numel(),
        flops=flop_parts(work, batch), differences=differences, systems=found, times=times,
    )  # fmt: skip


def load_results(path: Path | None) -> dict[str, Any]:
    """What an earlier, perhaps interrupted, run has stored."""
    if path is None or not path.exists():
        return dict(version=1, settings={})
    return json.loads(path.read_text(encoding='utf-8'))


def store_results(path: Path | None, results: dict[str, Any]) -> None:
    """Write after every setting, so that an interrupted run goes on from there."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.tmp')
    partial.write_text(json.dumps(results, default=str) + '\n', encoding='utf-8')
    os.replace(partial, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    args = parse_args(argv)
    torch.set_num_threads(1)
    # Of torch, about TorchJD's default, which is measured as it is.
    warnings.filterwarnings('ignore', 'There is a performance drop', UserWarning)
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    console = Console(width=None if sys.stdout.isatty() else 140)
    peers = load_peers(console)
    results = load_results(args.out)
    results['environment'] = collect_environment()
    results['peers'] = {name: peer and peer.version for name, peer in peers.items()}
    checks = []
    for name, work in workloads(args).items():
        if name not in results['settings']:
            try:
                found = measure(name.split()[0], work, peers, args.rounds, args.warmup)
            except UnequalUpdatesError as error:
                print(f'error: {error}', file=sys.stderr)
                return 2
            results['settings'][name] = found
            store_results(args.out, results)
        setting = results['settings'][name]
        console.print(make_table(setting))
        largest = max(setting['differences'].items(), key=lambda item: item[1])
        console.print(f'largest relative difference of an update: {largest[1]:.1e} ({largest[0]})', highlight=False)
        checks += check_setting(setting)
        missed = [check for check in check_setting(setting) if not check.ok]
        profiles = setting.setdefault('profiles', {})
        compared = {label for check in missed for label in check.pair} - profiles.keys()
        if compared:
            steps = build_all(work, work.make_batch(), peers)
            profiles.update(profile_steps([step for step in steps if step.label in compared]))
            store_results(args.out, results)
        for check in missed:
            console.print(f'[red]missed[/red]  {check.target}; found {check.found}', highlight=False)
            if check.pair and profiles.keys() >= set(check.pair):  # a library may have gone since then
                ours, other = (profiles[label] for label in check.pair)
                console.print(f'        profile: {differences(ours, other)}', highlight=False)
    num_met = sum(check.ok for check in checks)
    console.print(f'{num_met} of {len(checks)} targets met')
    return 0 if num_met == len(checks) else 1


if __name__ == '__main__':
    sys.exit(main())
