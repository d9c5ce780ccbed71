"""Starting two gloo processes that run the same job, and collecting what each of them found."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

ROOT = Path(__file__).parents[2]


def work(job: Callable[..., dict]) -> None:
    """Main function of a worker module: ``python -m MODULE RANK FOLDER CASE ...`` saves ``job(rank, *cases)``."""
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    torch.save(job(rank, *sys.argv[3:]), folder / f'rank{rank}.pt')
    # DDP lies in reference cycles; what is left of it when gloo ends may abort the process.
    gc.collect()
    dist.destroy_process_group()


def launch(module: str, folder: Path, *cases: str) -> list[Any]:
    """Run ``module`` in two processes for some cases; returns what rank 0 and rank 1 saved."""
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-W', 'ignore', '-m', module]
    arguments = [str(folder), *cases]
    processes = [
        subprocess.Popen([*command, str(rank), *arguments], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, stderr = process.communicate(timeout=600)
            assert process.returncode == 0, stderr[-4000:]
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f'rank{rank}.pt', weights_only=True) for rank in range(2)]
