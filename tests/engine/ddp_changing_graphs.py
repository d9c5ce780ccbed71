"""What the two ranks of test_changing_graphs.py run: methods in scenarios as listed, news on rank 1 alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.support.two_ranks import work

from .changing_graphs import micro, run
from .ddp_worker import wrap


def job(rank):
    cases = json.loads((Path(sys.argv[2]) / 'cases.json').read_text())
    return {
        (key, scenario): run(key, scenario, wrap, lambda number, s=scenario: [micro(s, number, rank, 2)])
        for key, scenario in cases
    }


if __name__ == '__main__':
    work(job)
