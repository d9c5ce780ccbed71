"""What the two ranks of test_partial_methods.py run: each method on partial labels, with one task nobody has."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support.two_ranks import work

from .partial_runs import methods_to_run, partial_config, train, weights, without_absent


def one_run(key: str, folder: Path) -> dict:
    cfg = partial_config(folder / key, **without_absent(key), launcher='pytorch', load_from=str(folder / 'start.pth'))
    runner, present = train(cfg)
    return dict(weights=weights(runner), present=[sorted(tasks) for tasks in present.tasks])


def job(rank: int) -> dict:
    os.environ['LOCAL_RANK'] = str(rank)  # as launchers set it
    return {key: one_run(key, Path(sys.argv[2])) for key in methods_to_run()}


if __name__ == '__main__':
    work(job)
