"""What the two ranks of test_changing_graphs.py run: every method in every scenario, news on rank 1 alone."""

from __future__ import annotations

from .all_methods import ROWS
from .changing_graphs import SCENARIOS, micro, run
from .ddp_worker import wrap
from .two_ranks import work


def job(rank):
    return {
        (key, scenario): run(key, scenario, wrap, lambda number, s=scenario: [micro(s, number, rank, 2)])
        for key in ROWS
        for scenario in SCENARIOS
    }


if __name__ == '__main__':
    work(job)
