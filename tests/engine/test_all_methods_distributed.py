"""Two gloo processes equal one process on the joint batch, for every method of the catalogue."""

import pytest
import torch

from tests.support.runs import differences
from tests.support.two_ranks import launch

from .all_methods import CASES, ROWS, build, record_gradients
from .ddp_all_methods import job
from .toy import flat, join, make_model, toy_batch


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    return launch(job, tmp_path_factory.mktemp('ddp'))


def vector(gradients):
    return torch.cat([gradient.reshape(-1) for gradient in gradients if gradient is not None])


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('key', ROWS)
def test_two_ranks_equal_the_joint_batch(ranks, key, case):
    first, second = (rank[key, case] for rank in ranks)
    assert torch.equal(first['weights'], second['weights'])
    assert differences(first['state'], second['state']) == []

    model = make_model()
    start = flat(model)
    wrapper = build(key, model, lr=1e-2)
    gradients = record_gradients(wrapper)
    for number in (0, 10):
        model.train_step(join(*(toy_batch(rank + number, **CASES[case][rank]) for rank in range(2))), wrapper)
    assert len(gradients) == len(first['gradients']) == len(second['gradients'])
    for here, there in zip(gradients, first['gradients']):
        assert [gradient is None for gradient in here] == [gradient is None for gradient in there]
    here, there = vector(gradients[0]), vector(first['gradients'][0])
    assert (here - there).norm() <= 1e-5 * here.norm()
    # The second step starts from weights, and with states, that differ by rounding already.
    assert (flat(model) - first['weights']).norm() <= 1e-4 * (flat(model) - start).norm()
