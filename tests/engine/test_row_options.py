"""A method around another, normalised rows, and the main task, from the config to the step."""

import pytest
import torch

from mtl_plugins.engine.hooks.cost import cost_line

from .all_methods import build, train
from .toy import TASKS, flat, make_model


def test_a_method_around_another_is_built_and_its_mistakes_are_named():
    around = dict(type='CRMOGM', aggregator=dict(type='UPGrad', pref_vector=dict(b=2.0)))
    model = make_model()
    wrapper = build('pcgrad', model, aggregator=around, normalise='l2', tasks=TASKS)
    train(model, wrapper, range(2))
    assert wrapper.method_name == 'cr_mogm+upgrad'
    assert "; rows normalised by 'l2'" in cost_line(wrapper)
    with pytest.raises(
        ValueError, match=r"aggregator\.aggregator: there is no aggregator 'UPGard'; did you mean UPGrad"
    ):
        build('pcgrad', model, aggregator=dict(type='CRMOGM', aggregator=dict(type='UPGard')))
    with pytest.raises(ValueError, match=r'normalise.*rows can be normalised by none, l2'):
        build('pcgrad', model, normalise='length')


@pytest.mark.parametrize('key', ['graddrop', 'f_mtl', 'samo', 'db_mtl'])
def test_rows_are_normalised_in_every_strategy_that_combines_them(key):
    found = []
    for by in (None, 'l2'):
        model = make_model()
        train(model, build(key, model, normalise=by), range(2))
        found.append(flat(model))
    assert torch.isfinite(found[1]).all()
    assert not torch.equal(*found)


def test_the_line_before_training_names_the_main_task():
    assert "; main task 'a'" in cost_line(build('pcd', make_model(), tasks=TASKS))
    named = build('pcd', make_model(), tasks=TASKS, aggregator=dict(type='PCD', main='c'))
    assert "; main task 'c'" in cost_line(named)
    inside = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='PCD', main='b'))
    assert "; main task 'b'" in cost_line(build('phases', make_model(), tasks=TASKS, joint=inside))
    inside['aggregator'] = dict(type='CRMOGM', aggregator=inside['aggregator'])
    assert "; main task 'b'" in cost_line(build(inside, make_model(), tasks=TASKS))


def test_pcd_in_a_batch_without_its_main_task_is_the_sum_of_the_others():
    """Which is the mean times the number of present tasks, at the scale of ``rescale='sum'``."""
    found = []
    for key in ('pcd', 'gd'):
        model = make_model()
        wrapper = build(key, model, tasks=TASKS)
        train(model, wrapper, range(2), tasks=('b', 'c'))
        found.append(flat(model))
    torch.testing.assert_close(*found)
