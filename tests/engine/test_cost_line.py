"""The sentence before training that says what a batch costs, for every method of the catalogue."""

import re

import pytest

from mtl_plugins.engine.hooks.cost import cost_line

from .all_methods import ROWS, build, read_fragment, train
from .toy import TASKS, make_model


@pytest.mark.parametrize('key', ['pcgrad', 'f_mtl', 'samo', 'ada_task', 'stgu'])
def test_the_forward_after_the_step_is_counted_in_every_strategy(key):
    model = make_model()
    wrapper = build(key, model, weighting=dict(type='FAMO'), tasks=TASKS)
    counts, log = [], wrapper._log
    wrapper._log = lambda batch: (counts.append(batch.num_forwards), log(batch))
    train(model, wrapper, [0])
    cost = wrapper.cost_per_batch()
    assert counts == [cost.forwards + cost.probes]
    assert f'{float(cost.probes):.2g} forward without graph' in cost_line(wrapper)


@pytest.mark.parametrize('key', ['gradnorm', 'emtl'])
def test_partial_backwards_are_in_the_line(key):
    line = cost_line(build(key, make_model(), tasks=TASKS))
    assert '1 backward and 3 partial backward that ends at the last shared layer per batch' in line


@pytest.mark.parametrize('key', ROWS)
def test_the_line_says_what_the_wrapper_counts(key):
    for tasks in (TASKS, None):
        wrapper = build(key, make_model(), tasks=tasks)
        cost = wrapper.cost_per_batch()
        line = cost_line(wrapper)
        forwards, backwards = re.search(r'(\S+) forward, (\S+) backward', line).groups()
        assert (forwards, backwards) == (str(cost.forwards), str(cost.backwards))
        assert f'{cost.relative:.2g} x GD' in line
        assert f'on {len(tasks) if tasks else "?"} tasks' in line
        assert ('forward without graph per batch' in line) == bool(cost.probes)
        assert ('M follows the affinity' in line) == key.startswith('stgu')
        assert 'micro-batch' not in line
        assert 'of them per batch' not in line


def test_what_may_change_the_cost_is_said():
    stgu = read_fragment('stgu')
    line = cost_line(build(stgu, make_model(), tasks=TASKS, groups_per_batch=2, warmup_iters=2, probe_interval=4))
    assert 'and 0.25 forward without graph per batch' in line
    assert '(M = 3 groups now, 2 of them per batch; M follows the affinity after 2 batches)' in line
    fixed = dict(type='Fixed', groups=[list(TASKS)])
    assert 'M follows' not in cost_line(build(stgu, make_model(), tasks=TASKS, grouper=fixed, probe_interval=0))
    line = cost_line(build('gd', make_model(), tasks=TASKS, accumulative_counts=3))
    assert line.endswith('; per micro-batch, of 3, plus one forward without graph per measurement')
