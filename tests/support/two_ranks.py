"""Two gloo processes: a function that both call, or a program that both run."""

from __future__ import annotations

import gc
import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from . import shortcuts
from .programs import CONTEXT, Program, run_together


def launch(job: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """What ``job(rank, *arguments)``, a function of a module, returns on rank 0 and on rank 1."""
    torch.multiprocessing.start_processes(
        _work, (job, folder, arguments, dict(os.environ)), nprocs=2, start_method=CONTEXT.get_start_method()
    )
    return [torch.load(folder / f'rank{rank}.pt', weights_only=True) for rank in range(2)]


def _work(rank: int, job: Callable[..., Any], folder: Path, arguments: tuple, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment, LOCAL_RANK=str(rank))
    warnings.simplefilter('ignore')
    shortcuts.take()
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    torch.save(job(rank, *arguments), folder / f'rank{rank}.pt')
    # DDP lies in reference cycles; what is left of it when gloo ends may abort the process.
    gc.collect()
    dist.destroy_process_group()


def run_ranks(*words: object, seconds: float = 90, expect: int = 0) -> None:
    """Run ``python WORDS`` on each rank, with the environment that launchers set; a hang ends with an error."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    shared = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), WORLD_SIZE='2')
    ranks = [Program(*words, env=dict(shared, RANK=str(rank), LOCAL_RANK=str(rank))) for rank in range(2)]
    run_together(ranks, seconds, expect)
