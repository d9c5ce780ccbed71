"""The gradient norms that GradNorm and EMTL balance: of which layer, over what, and what one may name."""

import pytest
import torch

from mtl_plugins.engine.step import reduction
from mtl_plugins.errors import UserError
from tests.support.thread_ranks import Ranks

from .all_methods import build
from .toy import TASKS, flat, join, make_model, toy_batch

LAYERS = {
    None: 'backbone.4',
    'backbone.0': 'backbone.0',
    'backbone': 'backbone',
    'backbone.0.weight': 'backbone.0.weight',
    'backbone.4.bias': 'backbone.4.bias',
}


def watched(key, model, **settings):
    """A wrapper, and the norms that its weighting is told: one list of K per step."""
    wrapper, told = build(key, model, tasks=TASKS, **settings), []
    observe = wrapper.weighting.observe_grad_norms
    wrapper.weighting.observe_grad_norms = lambda norms, *rest: (told.append(norms.tolist()), observe(norms, *rest))
    return wrapper, told


def by_hand(model, batch, prefix):
    losses = model(**batch, mode='loss')
    parameters = [p for name, p in model.named_parameters() if name == prefix or name.startswith(f'{prefix}.')]
    norms = []
    for task in TASKS:
        loss = losses.get(f'{task}.loss')
        rows = () if loss is None else torch.autograd.grad(loss, parameters, retain_graph=True)
        norms.append(sum(float(row.square().sum()) for row in rows) ** 0.5)
    return norms


@pytest.mark.parametrize('layer', LAYERS)
@pytest.mark.parametrize('key', ['gradnorm', 'emtl'])
def test_the_norms_are_those_of_the_layer(key, layer):
    model = make_model()
    wrapper, told = watched(key, model, shared_layer=layer)
    batches = [toy_batch(0), toy_batch(1, tasks=('a', 'c')), toy_batch(2, invalid=0.3)]
    for number, batch in enumerate(batches):
        expected = by_hand(model, batch, LAYERS[layer])
        model.train_step(batch, wrapper)
        assert told[number] == pytest.approx(expected, rel=1e-5)
    assert len(told) == 3


def test_they_are_those_of_the_joint_batch_on_every_rank(monkeypatch):
    batches = [toy_batch(0), toy_batch(1, tasks=('a', 'c'), invalid=0.5)]
    expected = by_hand(make_model(), join(*batches), 'backbone.4')
    monkeypatch.setattr(reduction, 'dist', ranks := Ranks(2))
    models = [make_model() for _ in batches]

    def job(rank):
        wrapper, told = watched('gradnorm', models[rank])
        models[rank].train_step(batches[rank], wrapper)
        return told[0]

    for norms in ranks.run(job):
        assert norms == pytest.approx(expected, rel=1e-5)
    assert torch.equal(*map(flat, models))


def test_a_layer_that_no_two_tasks_share_is_refused():
    for layer in ('backbone.1', 'heads.a', 'back', 'backbone.0.'):
        wrapper, _ = watched('gradnorm', model := make_model(), shared_layer=layer)
        with pytest.raises(
            UserError, match=rf"shared_layer='{layer}' names no shared .* are backbone.0.weight, .*bias"
        ):
            model.train_step(toy_batch(0), wrapper)


@pytest.mark.parametrize(('layer', 'frozen'), [('backbone.0', 'backbone.0'), (None, 'backbone.4')])
def test_while_it_is_frozen_the_next_one_counts_unless_it_was_named(layer, frozen):
    model = make_model()
    wrapper, told = watched('gradnorm', model, shared_layer=layer)
    model.train_step(toy_batch(0), wrapper)
    model.get_submodule(frozen).requires_grad_(False)
    expected = by_hand(model, toy_batch(1), 'backbone.0') if layer is None else [0.0] * 3
    model.train_step(toy_batch(1), wrapper)
    assert told[1] == pytest.approx(expected, rel=1e-5)
    model.backbone.requires_grad_(False)
    model.train_step(toy_batch(2), wrapper)
    assert told[2] == [0.0] * 3
    assert wrapper.zero_rows == dict.fromkeys(TASKS, 1 if layer is None else 2)
