"""What the two ranks of test_changing_graphs.py run: methods in scenarios as listed, news on rank 1 alone."""

from __future__ import annotations

from .changing_graphs import micro, run
from .ddp_worker import wrap


def job(rank, cases):
    return {
        (key, scenario): run(key, scenario, wrap, lambda number, s=scenario: [micro(s, number, rank, 2)])
        for key, scenario in cases
    }
