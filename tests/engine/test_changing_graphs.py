"""Every method while parameters freeze, are skipped or get new users: the step is the one from scratch."""

import pytest

from .all_methods import ROWS
from .changing_graphs import SCENARIOS, check, micro, run
from .two_ranks import launch

CASES = [(key, scenario) for key in ROWS for scenario in SCENARIOS]


@pytest.mark.parametrize(('key', 'scenario'), CASES)
def test_the_step_is_the_one_from_scratch(key, scenario):
    found = run(key, scenario, batches=lambda number: [micro(scenario, number)])
    check(key, scenario, found)


@pytest.mark.parametrize('key', [key for key, row in ROWS.items() if row.accumulates_exactly])
@pytest.mark.parametrize('scenario', ['second user', 'constant loss'])
def test_so_it_is_over_two_micro_batches(key, scenario):
    batches = lambda number: [micro(scenario, number, part, 2) for part in range(2)]  # noqa: E731
    check(key, scenario, run(key, scenario, batches=batches, accumulative_counts=2), parts=2)


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    return launch('tests.engine.ddp_changing_graphs', tmp_path_factory.mktemp('changing'))


@pytest.mark.parametrize(('key', 'scenario'), CASES)
def test_so_it_is_on_two_ranks(ranks, key, scenario):
    first, second = (rank[key, scenario] for rank in ranks)
    for here, there in zip(first['weights'], second['weights']):
        assert all((here[name] == there[name]).all() for name in here)
    assert first['groups'] == second['groups']
    check(key, scenario, first, parts=2)
