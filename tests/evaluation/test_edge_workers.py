"""Images measured in other processes: equal results, and nothing left behind."""

import io
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from rich.console import Console

from mtl_plugins.evaluation import EdgeMetric
from mtl_plugins.evaluation.pool import WorkPool, default_workers
from tests.support.programs import Program
from tests.support.two_ranks import launch

from .dense_samples import evaluate, sample
from .edge_maps import contours

# Python 3.12 warns of any fork in a process with threads; torch has started some.
pytestmark = pytest.mark.filterwarnings('ignore:This process .* is multi-threaded:DeprecationWarning')

PROGRAM = """
import os, sys, time
import numpy as np
from mtl_plugins.evaluation import EdgeMetric

def slow(*args):
    time.sleep(0.2)
    return os.getpid()

metric = EdgeMetric(num_workers=2)
jobs = [metric._pool.submit(slow) for _ in range(6)]
metric._pool.wait()
print('workers', *sorted({job.result() for job in jobs}), flush=True)
time.sleep(60)
"""


@pytest.fixture
def workers_left():
    """The processes of this test that still run; those of earlier tests are none of the metric's."""
    before = set(multiprocessing.active_children())
    return lambda: set(multiprocessing.active_children()) - before


def _samples(n=6, size=(48, 64), seed=0):
    rng = np.random.default_rng(seed)
    samples = []
    for index in range(n):
        target, pred = contours(rng, size, jitter=0.5)
        gt = target.astype(np.uint8)
        gt[:5] = 255
        samples.append(sample('edge', gt, (pred * rng.random(size)).astype(np.float32), index))
    return samples


def _process_of(seconds=0.0):
    time.sleep(seconds)
    return os.getpid()


def _fail(message):
    raise ValueError(message)


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _alive(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def _gone(pids, seconds=15):
    end = time.monotonic() + seconds
    while any(_alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(_alive(pid) for pid in pids)


@pytest.mark.parametrize('num_workers', [1, 2, 3])
def test_results_do_not_depend_on_the_number_of_workers(num_workers, workers_left):
    samples = _samples()
    metric = EdgeMetric(num_workers=num_workers)
    for _ in range(2):  # and the metric can be used again
        assert evaluate(metric, samples) == evaluate(EdgeMetric(num_workers=0), samples)
    assert not workers_left()


def test_spawned_workers_give_the_same(workers_left):
    samples = _samples(3)
    metric = EdgeMetric(num_workers=1, start_method='spawn')
    assert evaluate(metric, samples) == evaluate(EdgeMetric(num_workers=0), samples)
    assert not workers_left()


def test_works_after_torch_has_used_its_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.rand(300, 300) @ torch.rand(300, 300)
        samples = _samples(3)
        assert evaluate(EdgeMetric(num_workers=2), samples) == evaluate(EdgeMetric(num_workers=0), samples)
    finally:
        torch.set_num_threads(threads)


def test_predictions_may_be_overwritten_afterwards():
    samples = _samples(4)
    expected = evaluate(EdgeMetric(num_workers=0), samples)
    metric = EdgeMetric(num_workers=1)
    for one in samples:
        metric.process(None, [one.to_dict()])
        one.pred_edge.data.fill_(0.5)
        one.gt_edge.data.fill_(0)
    assert metric.evaluate(len(samples)) == expected


@pytest.mark.parametrize('terminal', [True, False])
def test_a_bar_shows_the_images_that_are_left(monkeypatch, terminal):
    out = io.StringIO()
    monkeypatch.setattr(
        'mtl_plugins.evaluation.metrics.edges.Console', lambda: Console(file=out, force_terminal=terminal)
    )
    monkeypatch.setattr(sys, '__stdout__', sys.stdout)
    assert np.isfinite(evaluate(EdgeMetric(num_workers=1), _samples(3))['edge/odsF'])
    assert ('Edges: match' in out.getvalue()) == terminal
    monkeypatch.setattr(sys, '__stdout__', None)  # somebody else draws on the terminal
    out.truncate(0)
    evaluate(EdgeMetric(num_workers=1), _samples(3))
    assert 'Edges' not in out.getvalue()


def test_samples_without_target_take_no_worker():
    samples = _samples(2)
    metric = EdgeMetric(num_workers=1)
    assert evaluate(metric, [sample('edge', None, None), *samples]) == evaluate(EdgeMetric(num_workers=0), samples)


def test_small_images_are_measured_at_once_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr('mtl_plugins.evaluation.metrics.edges.default_workers', lambda: 2)
    metric = EdgeMetric()
    metric.process(None, [_samples(1)[0].to_dict()])
    assert isinstance(metric.results[0], dict)
    metric.process(None, [_samples(1, size=(200, 201))[0].to_dict()])
    assert not isinstance(metric.results[1], dict)
    assert np.isfinite(metric.evaluate(2)['edge/odsF'])


@pytest.mark.parametrize(
    ('cores', 'ranks', 'workers'), [(1, 1, 0), (2, 1, 1), (8, 1, 7), (64, 1, 8), (16, 4, 3), (4, 8, 0)]
)
def test_default_number_of_workers(monkeypatch, cores, ranks, workers):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(cores)))
    monkeypatch.setenv('LOCAL_WORLD_SIZE', str(ranks))
    assert default_workers() == workers


def test_only_so_many_calls_wait():
    pool = WorkPool(2)
    try:
        jobs = []
        for _ in range(30):
            jobs.append(pool.submit(_process_of, 0.01))
            assert pool.num_waiting <= 8
        done = []
        left = pool.num_waiting
        pool.wait(lambda: done.append(1))
        assert len(done) == left
        assert pool.num_waiting == 0
        assert os.getpid() not in {job.result() for job in jobs}
    finally:
        pool.close()


def test_arguments_are_let_go():
    pool = WorkPool(0)
    array = np.zeros(3)
    before = sys.getrefcount(array)
    job = pool.submit(np.sum, array)
    assert job.result() == 0
    assert sys.getrefcount(array) == before


@pytest.mark.parametrize('num_workers', [0, 1])
def test_errors_arrive(num_workers, workers_left):
    pool = WorkPool(num_workers)
    with pytest.raises(ValueError, match='broken image'):
        pool.submit(_fail, 'broken image').result()
    pool.close()
    assert not workers_left()


def test_a_dead_worker_costs_time_only(caplog, workers_left):
    logger = MMLogger.get_instance(f'workers-test-{id(caplog)}')
    logger.addHandler(caplog.handler)
    samples = _samples(6)
    metric = EdgeMetric(num_workers=1)
    for one in samples[:3]:
        metric.process(None, [one.to_dict()])
    metric._pool._executor.submit(_die)
    for one in samples[3:]:
        metric.process(None, [one.to_dict()])
    assert metric.evaluate(6) == evaluate(EdgeMetric(num_workers=0), samples)
    logger.removeHandler(caplog.handler)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert 'process that measures images died' in caplog.text
    assert not workers_left()
    caplog.clear()
    assert evaluate(metric, samples) == evaluate(EdgeMetric(num_workers=0), samples), 'the next evaluation has workers'
    assert not caplog.records


def test_a_metric_with_running_workers_can_be_copied():
    metric = EdgeMetric(num_workers=1)
    metric._pool.submit(_process_of).result()
    again = pickle.loads(pickle.dumps(metric))
    assert evaluate(again, _samples(2)) == evaluate(metric, _samples(2))


def test_dropping_the_metric_ends_its_workers():
    metric = EdgeMetric(num_workers=1)
    pid = metric._pool.submit(_process_of).result()
    assert _alive(pid)
    del metric
    assert _gone([pid])


@pytest.mark.parametrize('end', [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_program(end):
    """Ctrl-C goes to the whole group, as from a terminal; SIGKILL to the main process alone."""
    with Program('-c', PROGRAM, new_session=True) as program:
        program.wait_for('workers')
        workers = [int(pid) for pid in program.stdout.rpartition('workers')[2].split()]
        assert workers
        assert all(_alive(pid) for pid in workers)
        (os.killpg if end == signal.SIGINT else os.kill)(program.pid, end)
        assert program.wait(30) != 0
        assert _gone(workers)
        if end == signal.SIGINT:
            assert program.stderr.count('KeyboardInterrupt') == 1, 'the workers keep silent'


def _job(rank):
    everything = _samples(5)
    everything.append(everything[0])  # a sampler rounds up to equal shares
    metric = EdgeMetric(num_workers=2, start_method='fork')
    metric.process(None, [one.to_dict() for one in everything[rank::2]])
    found = metric.evaluate(5)
    assert not multiprocessing.active_children()
    return found


def test_two_ranks_with_workers_equal_one_process(tmp_path):
    first, second = launch(_job, tmp_path)
    assert first == second == evaluate(EdgeMetric(num_workers=0), _samples(5))
