"""Does every method learn? 30 iterations of the Rooms config each, losses on fixed batches before and after.

The figure per method is the mean over the tasks of (raw loss after / raw loss before) on 8 batches of the validation
set; below 1 is progress. It says that a method works end to end, not how good it is.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.progress import track

from mtl_plugins.config import build_runner, load_config
from mtl_plugins.engine.catalogue import list_methods
from mtl_plugins.runtime.checkpoints import write_atomically
from mtl_plugins.runtime.hooks.environment import collect_environment
from mtl_plugins.runtime.hooks.rng_state import get_rng_state, set_rng_state

CONFIG = 'configs/rooms/gd_vit-micro_8b-2k_rooms-96.py'


class LossProbe(Hook):
    """Measures the raw losses on the first batches of the validation set before and after training."""

    def __init__(self, num_batches: int) -> None:
        self.num_batches = num_batches
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}

    def before_train(self, runner: Runner) -> None:
        """Measure the untrained model."""
        self.before = self.measure(runner)

    def after_train(self, runner: Runner) -> None:
        """Measure the trained model."""
        self.after = self.measure(runner)

    @torch.no_grad()
    def measure(self, runner: Runner) -> dict[str, float]:
        """Mean loss per task over the batches; the run's random numbers are not touched."""
        state = get_rng_state()
        model = runner.model.eval()
        sums: dict[str, list[float]] = {}
        for index, data in enumerate(runner.val_dataloader):
            if index == self.num_batches:
                break
            losses = model(**model.data_preprocessor(data, True), mode='loss')
            for key, value in losses.items():
                if key.endswith('.loss'):
                    sums.setdefault(key.removesuffix('.loss'), []).append(value.item())
        model.train()
        set_rng_state(state)
        return {task: sum(values) / len(values) for task, values in sums.items()}


def run(key: str, iterations: int, work_dir: str, batches: int) -> dict[str, Any]:
    """Train with one method; returns losses, ratio and seconds."""
    options = {
        'train_cfg.max_iters': iterations,
        'train_cfg.val_begin': 10 * iterations,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'val_dataloader.num_workers': 0,
        'val_dataloader.persistent_workers': False,
        'default_hooks.checkpoint.interval': -1,
        'default_hooks.checkpoint.save_last': False,
        'log_level': 'ERROR',
    }
    cfg = load_config(CONFIG, options, method=key, work_dir=work_dir)
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook['type'].endswith('EpochLengthHook')]
    cfg.experiment_name = f'first_iterations_{key}'
    runner = build_runner(cfg)
    probe = LossProbe(batches)
    runner.register_hook(probe)
    begin = time.process_time()
    runner.train()
    ratios = {task: probe.after[task] / probe.before[task] for task in probe.before}
    return dict(
        before=probe.before,
        after=probe.after,
        ratios=ratios,
        ratio=sum(ratios.values()) / len(ratios),
        cpu_seconds=time.process_time() - begin,
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--methods', help='comma-separated keys (all)')
    parser.add_argument('--iterations', type=int, default=30)
    parser.add_argument('--batches', type=int, default=8)
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/first_iterations.json'),
        help='results; methods that are in it already are not run again',
    )
    parser.add_argument('--markdown', type=Path, help='also write the table here')
    args = parser.parse_args(argv)
    keys = args.methods.split(',') if args.methods else [row.key for row in list_methods()]
    results: dict[str, Any] = json.loads(args.out.read_text())['methods'] if args.out.is_file() else {}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for key in track(keys, 'methods', disable=not sys.stdout.isatty()):
            if 'ratio' not in results.get(key, {}):
                try:
                    results[key] = run(key, args.iterations, f'{folder}/{key}', args.batches)
                except Exception as error:
                    results[key] = dict(error=f'{type(error).__name__}: {error}')
                record = dict(environment=collect_environment(), methods=results)
                write_atomically(json.dumps(record, indent=1).encode(), args.out)
            print(f'{key:15} {results[key].get("ratio", results[key].get("error"))}', flush=True)
    if args.markdown:
        args.markdown.write_text(markdown(results, args.iterations))
    bad = [key for key in keys if not results[key].get('ratio', 2) < 1]
    print(
        f'{len(keys) - len(bad)} of {len(keys)} methods lower the losses' + (f'; not: {", ".join(bad)}' if bad else '')
    )
    return 1 if bad else 0


def markdown(results: dict[str, Any], iterations: int) -> str:
    """The table for docs/."""
    tasks = list(next(iter(results.values()))['ratios'])
    lines = [f'| method | mean | {" | ".join(tasks)} |', '|---' * (len(tasks) + 2) + '|']
    for key, entry in results.items():
        if 'ratio' in entry:
            cells = [f'{value:.3f}' for value in (entry['ratio'], *entry['ratios'].values())]
            lines.append(f'| `{key}` | {" | ".join(cells)} |')
    table = '\n'.join(lines)
    return f'Raw loss after {iterations} iterations / before, on fixed batches.\n\n{table}\n'


if __name__ == '__main__':
    sys.exit(main())
