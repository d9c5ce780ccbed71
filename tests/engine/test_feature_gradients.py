"""Gradients at a representation of several maps, of which the later are computed from the earlier."""

import math
from collections import namedtuple

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from mtl_plugins.engine.optim_wrappers import GradientAggregationOptimWrapper
from mtl_plugins.engine.step.feature_gradients import FeatureWatch
from mtl_plugins.errors import UserError
from mtl_plugins.methods.aggregation import MGDA

TASKS = ('a', 'b', 'c')
Maps = namedtuple('Maps', 'first second')
#: What a backbone may put its maps into, and how they are read again.
FORMS = {
    'tuple': (tuple, tuple),
    'named tuple': (lambda maps: Maps(*maps), lambda out: (out.first, out.second)),
    'dict with other things': (
        lambda maps: {'maps': list(maps), 'size': torch.tensor([4]), 'name': 'toy'},
        lambda out: out['maps'],
    ),
}


class TwoMaps(BaseModel):
    """The second map is made of the first; all heads read both.

    ``bypass`` lets heads use a shared weight as well; with ``apart`` the second map is one of ``c`` alone; with
    ``neck`` all heads share a layer.
    """

    def __init__(self, bypass=False, form='tuple', apart=False, neck=False):
        super().__init__()
        self.put, self.read = FORMS[form]
        self.tasks = TASKS
        self.backbone = nn.Module()
        self.backbone.first, self.backbone.second = nn.Linear(3, 4), nn.Linear(4, 4)
        self.backbone.forward = self._maps
        self.neck = nn.Linear(8, 8) if neck else nn.Identity()
        self.heads = nn.ModuleDict({task: nn.Linear(8, 1) for task in TASKS})
        self.bypass, self.apart = bypass, apart

    def _maps(self, x):
        first = self.backbone.first(x).tanh()
        return self.put((first, self.backbone.second(first).tanh()))

    def losses(self, x, maps):
        out = {}
        for k, task in enumerate(TASKS):
            first, second = self.read(maps)
            value = torch.cat((first, first if self.apart and task != 'c' else second), 1)
            value = self.heads[task](self.neck(value))
            if self.bypass:
                value = value * self.backbone.second.weight.square().sum()
            out[f'{task}.loss'] = (value - (k - 1) * x[:, k : k + 1]).square().mean()
        return out

    def forward(self, inputs, mode='loss'):
        return self.losses(inputs, self.backbone(inputs))


def build(model, **settings):
    return GradientAggregationOptimWrapper(
        torch.optim.SGD(model.parameters(), lr=0.1), dict(type='MGDA'), level='features', rescale=None, **settings
    )


def trained(model, x, wrapper=None, **settings):
    """The gradients that the wrapper steps along, by parameter name."""
    wrapper, seen = wrapper or build(model, **settings), {}
    wrapper.optimizer.register_step_pre_hook(
        lambda *_: seen.update({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    )
    with wrapper.optim_context(model):
        losses = model(inputs=x, mode='loss')
    wrapper.update_params(sum(losses.values()))
    assert wrapper.watch.tensors == []
    return seen


def solved(model, x):
    """The weights of MGDA at the representation."""
    leaves = [part.detach().requires_grad_() for part in model.read(model.backbone(x))]
    losses = list(model.losses(x, model.put(leaves)).values())
    gradients = [
        torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
        for loss in losses
    ]
    aggregator = MGDA()
    aggregator(torch.stack([torch.cat([part.reshape(-1) for part in parts]) for parts in gradients]))
    return aggregator.last_weights.float()


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize(
    'options', [{}, dict(bypass=True), dict(apart=True)], ids=['one pass', 'with a bypass', 'a map of one task']
)
def test_weights_come_from_the_heads_alone(options, form):
    torch.manual_seed(7)
    model, x = TwoMaps(form=form, **options), torch.randn(5, 3)
    weights = solved(model, x)
    assert weights.min() > 0.01
    losses = torch.stack(list(model(x).values()))
    shared = list((model.backbone.first if model.apart else model.backbone).parameters())
    expected = torch.autograd.grad(losses @ weights, shared, retain_graph=True)
    own = [p for p in model.parameters() if not any(p is each for each in shared)]
    gradients = torch.autograd.grad(losses.sum(), own)
    found = trained(model, x)
    by_name = {id(p): name for name, p in model.named_parameters()}
    assert set(found) == set(by_name.values())
    for parameter, gradient in zip([*shared, *own], [*expected, *gradients]):
        torch.testing.assert_close(found[by_name[id(parameter)]], gradient)


def test_a_part_of_the_module_that_a_task_begins_to_use_trains_at_once():
    """It may be that task's own, or become shared."""
    torch.manual_seed(7)
    model, x = TwoMaps(apart=True), torch.randn(5, 3)
    read, wrapper = model.read, build(model)
    for step in range(3):
        model.read = lambda maps, step=step: (read(maps)[0], read(maps)[min(step, 1)])
        model.apart = step < 2
        weights, losses = solved(model, x), torch.stack(list(model(x).values()))
        total = losses.sum() if model.apart else losses @ weights
        expected = torch.autograd.grad(total, list(model.backbone.second.parameters()), allow_unused=True)
        found = trained(model, x, wrapper)
        for name, gradient in zip(('weight', 'bias'), expected):
            torch.testing.assert_close(found.get(f'backbone.second.{name}'), gradient)
            assert (gradient is None) == (step == 0)


@pytest.mark.parametrize('bypass', [False, True])
def test_a_bypass_is_seen(bypass):
    model, watch = TwoMaps(bypass), FeatureWatch('backbone')
    with watch.watch(model):
        losses = {name[0]: loss for name, loss in model(torch.randn(5, 3)).items()}
    assert watch.is_only_way(losses, list(model.backbone.parameters())) is not bypass
    assert watch.is_only_way(losses, [model.backbone.first.weight])


@pytest.mark.parametrize(
    ('neck', 'heads'), [(False, 'sum'), (False, 'weighted'), (True, 'sum')], ids=['heads', 'weighted', 'a neck']
)
@pytest.mark.parametrize('form', FORMS)
def test_what_lies_behind_a_frozen_module_trains(form, neck, heads):
    """What is shared there by weights from the maps, which stay as they are to everyone else who holds them.

    Where nothing is shared, nothing is balanced.
    """
    torch.manual_seed(0)
    model, x = TwoMaps(form=form, neck=neck), torch.randn(5, 3)
    model.backbone.requires_grad_(False)
    losses = torch.stack(list(model(x).values()))
    expected = torch.autograd.grad(losses.sum(), list(model.heads.parameters()), retain_graph=True)
    if neck:
        expected = [*torch.autograd.grad(losses @ solved(model, x), list(model.neck.parameters())), *expected]
    held, forward = [], model.backbone.forward
    model.backbone.forward = lambda x: held.append(forward(x)) or held[-1]
    found = trained(model, x, heads=heads)
    assert not any(each.requires_grad for each in model.read(held[0]))
    assert len(found) == len(expected)
    for gradient, value in zip(expected, found.values()):
        torch.testing.assert_close(gradient, value)


def test_what_the_module_puts_out_without_a_graph_is_no_feature():
    """As in a further call for targets to be learned from."""
    ends = []
    for looks_twice in (False, True):
        torch.manual_seed(0)
        model, x = TwoMaps(), torch.randn(5, 3)
        if looks_twice:
            call = model.forward

            def forward(inputs, mode='loss', model=model, call=call):
                with torch.no_grad():
                    first = model.backbone(inputs)[0]
                assert not first.requires_grad
                losses = call(inputs)
                return {key: loss + 0 * (loss - first).mean() for key, loss in losses.items()}

            model.forward = forward
        ends.append(trained(model, x))
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize('bypass', [False, True], ids=['one pass', 'with a bypass'])
@pytest.mark.parametrize('bad', ['b', 'abc'])
def test_tasks_whose_gradient_at_the_features_is_not_finite_are_left_out(bad, bypass):
    torch.manual_seed(0)
    model, x = TwoMaps(bypass), torch.randn(5, 3)
    for task in bad:
        model.heads[task].register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] * math.nan,))
    wrapper = build(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.train_step(dict(inputs=x), wrapper)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if len(bad) < 3 and not name.startswith('heads.b')}
    assert wrapper.guard.total == dict.fromkeys(bad, 1)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_module_that_did_not_run_is_named():
    model = TwoMaps()
    model.spare = nn.Linear(3, 3)
    wrapper = GradientAggregationOptimWrapper(
        torch.optim.SGD(model.parameters(), lr=0.1), dict(type='MGDA'), level='features', features='spare'
    )
    with pytest.raises(UserError, match="features='spare': the module put out nothing"):
        model.train_step(dict(inputs=torch.randn(5, 3)), wrapper)
