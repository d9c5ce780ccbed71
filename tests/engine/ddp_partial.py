"""What the two ranks of test_partial_methods.py run: each method on partial labels, with one task nobody has."""

from __future__ import annotations

from pathlib import Path

from .partial_runs import methods_to_run, partial_config, train, weights, without_absent


def one_run(key: str, folder: Path) -> dict:
    cfg = partial_config(folder / key, **without_absent(key), launcher='pytorch', load_from=str(folder / 'start.pth'))
    runner, present = train(cfg)
    return dict(weights=weights(runner), present=[sorted(tasks) for tasks in present.tasks])


def job(rank: int, folder: Path) -> dict:
    return {key: one_run(key, folder) for key in methods_to_run()}
