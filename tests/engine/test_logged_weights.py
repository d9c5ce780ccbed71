"""The weights of the tasks in the log."""

import pytest
import torch
from mmengine.logging import MessageHub

from .all_methods import build, train
from .toy import TASKS, make_model


def weights_in_the_log(wrapper):
    scalars = wrapper.message_hub.log_scalars
    found = {task: scalars.get(f'train/{task}.weight') for task in TASKS}
    return {task: buffer.current() for task, buffer in found.items() if buffer is not None}


@pytest.fixture(autouse=True)
def empty_log():
    MessageHub.get_current_instance().log_scalars.clear()


@pytest.mark.parametrize('key', ['gd', 'stgu', 'graddrop'])
def test_methods_without_weights_log_none(key):
    train(model := make_model(), wrapper := build(key, model), range(3))
    assert weights_in_the_log(wrapper) == {}


def test_loss_weights():
    model = make_model()
    wrapper = build('uw', model)
    told, weights = [], wrapper.weighting.weights
    wrapper.weighting.weights = lambda *args: told.append(weights(*args)) or told[-1]
    train(model, wrapper, range(3))
    assert weights_in_the_log(wrapper) == dict(zip(TASKS, told[-1].tolist()))
    assert len(set(told[-1].tolist())) == 3


def test_weights_inside_the_groups():
    model = make_model()
    fragment = dict(
        type='mtl_plugins.SelectiveTaskGroupOptimWrapper', weighting=dict(type='FAMO'), grouper=dict(type='Singletons')
    )
    wrapper = build(fragment, model)
    train(model, wrapper, range(3))
    assert sorted(weights_in_the_log(wrapper)) == list(TASKS)


@pytest.mark.parametrize('interval', [1, 3])
def test_weights_of_gradients(interval):
    """MGDA's lie on the simplex; steps that take over the last solution log it again."""
    model = make_model()
    wrapper = build(dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='MGDA')), model)
    wrapper.interval = interval
    train(model, wrapper, range(2))
    logged = torch.tensor(list(weights_in_the_log(wrapper).values()))
    assert len(logged) == 3
    assert logged.tolist() == pytest.approx(list(wrapper.combiner.weights.values()))
    assert (logged >= 0).all()


def test_loss_weights_and_weights_of_gradients_multiply():
    model = make_model()
    settings = dict(aggregator=dict(type='MGDA'), weighting=dict(type='UncertaintyWeighting'))
    wrapper = build(dict(type='mtl_plugins.GradientAggregationOptimWrapper', **settings), model)
    told, weights = [], wrapper.weighting.weights
    wrapper.weighting.weights = lambda *args: told.append(weights(*args)) or told[-1]
    train(model, wrapper, range(3))
    expected = {task: w * wrapper.combiner.weights[task] for task, w in zip(TASKS, told[-1].tolist())}
    assert weights_in_the_log(wrapper) == pytest.approx(expected)
