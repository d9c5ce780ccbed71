"""Two gloo processes equal one process on the joint batch."""

import pytest
import torch

from mtl_plugins.engine.optim_wrappers import GradientAggregationOptimWrapper
from tests.support.two_ranks import launch

from .ddp_worker import CASES, build, job, record_gradients
from .toy import TASKS, flat, join, make_model, toy_batch


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    return launch(job, tmp_path_factory.mktemp('ddp'))


@pytest.mark.parametrize('method', ['gd', 'stgu'])
@pytest.mark.parametrize('case', CASES)
def test_joint_batch(ranks, method, case):
    first, second = (rank['steps'][method, case] for rank in ranks)
    assert torch.equal(first['weights'], second['weights'])

    model = make_model()
    start = flat(model)
    wrapper = build(method, model)
    gradients = []
    record_gradients(wrapper, gradients)
    model.train_step(join(*(toy_batch(r, **CASES[case][r]) for r in range(2))), wrapper)
    moved = (flat(model) - start).norm()
    assert (flat(model) - first['weights']).norm() <= 1e-5 * moved
    assert len(gradients) == len(first['gradients']) == len(second['gradients'])
    for step, (here, there) in enumerate(zip(gradients, first['gradients'])):
        assert [g is None for g in here] == [g is None for g in there]
        here, there = (torch.cat([g.reshape(-1) for g in grads if g is not None]) for grads in (here, there))
        # The second and later groups of a batch start from weights that differ by rounding already.
        assert (here - there).norm() <= (1e-5 if step == 0 else 2e-5) * here.norm()


@pytest.mark.parametrize('run', ['long', 'no seed', 'in turns'])
def test_ranks_agree_at_every_iteration(ranks, run):
    first, second = (rank[run] for rank in ranks)
    assert first['seed'] == second['seed'] == (3 if run == 'long' else 100)
    assert first['groups'] == second['groups']
    assert len({str(groups) for groups in first['groups']}) > 1, 'the groups never changed, so the test shows nothing'
    assert torch.equal(first['affinity'], second['affinity'])
    assert torch.equal(first['weights'], second['weights'])


def test_nonfinite_on_one_rank_is_left_out_on_all(ranks):
    first, second = (rank['nonfinite'] for rank in ranks)
    assert first['total'] == second['total'] == {'b': 1}
    assert torch.equal(first['weights'], second['weights'])
    assert torch.isfinite(first['weights']).all()
    model = make_model()
    model.train_step(join(toy_batch(0, tasks=('a', 'c')), toy_batch(1, tasks=('a', 'c'))), build('stgu', model))
    assert (flat(model) - first['weights']).norm() <= 1e-5 * (flat(model) - flat(make_model())).norm()


def test_weighted_sum_equals_stock_ddp(ranks):
    for rank in ranks:
        assert torch.equal(*rank['stock'])
    assert torch.equal(ranks[0]['stock'][1], ranks[1]['stock'][1])


def test_accumulation_on_two_ranks(ranks):
    assert torch.equal(ranks[0]['accumulation'], ranks[1]['accumulation'])
    model = make_model()
    start = flat(model)
    batches = [toy_batch(0), toy_batch(10), toy_batch(1, invalid=0.5), toy_batch(11, tasks=('a', 'c'))]
    model.train_step(join(*batches), build('stgu', model))
    assert (flat(model) - ranks[0]['accumulation']).norm() <= 1e-5 * (flat(model) - start).norm()


def test_tasks_of_all_ranks_are_found(ranks):
    assert ranks[0]['discovered'] == ranks[1]['discovered'] == list(TASKS)


def test_features_level_equals_the_joint_batch(ranks):
    assert torch.equal(ranks[0]['features'], ranks[1]['features'])
    model = make_model()
    start = flat(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    wrapper = GradientAggregationOptimWrapper(optimizer, dict(type='MGDA'), level='features')
    model.train_step(join(toy_batch(0), toy_batch(1, invalid=0.5)), wrapper)
    assert (flat(model) - ranks[0]['features']).norm() <= 1e-5 * (flat(model) - start).norm()
