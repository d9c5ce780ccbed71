"""Gradients at a representation of several maps, of which the later are computed from the earlier."""

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
    """The second map is made of the first; all heads read both. ``bypass`` lets heads use a shared weight as well."""

    def __init__(self, bypass=False, form='tuple'):
        super().__init__()
        self.put, self.read = FORMS[form]
        self.tasks = TASKS
        self.backbone = nn.Module()
        self.backbone.first, self.backbone.second = nn.Linear(3, 4), nn.Linear(4, 4)
        self.backbone.forward = self._maps
        self.heads = nn.ModuleDict({task: nn.Linear(8, 1) for task in TASKS})
        self.bypass = bypass

    def _maps(self, x):
        first = self.backbone.first(x).tanh()
        return self.put((first, self.backbone.second(first).tanh()))

    def losses(self, x, maps):
        out = {}
        for k, task in enumerate(TASKS):
            value = self.heads[task](torch.cat(self.read(maps), 1))
            if self.bypass:
                value = value * self.backbone.second.weight.square().sum()
            out[f'{task}.loss'] = (value - (k - 1) * x[:, k : k + 1]).square().mean()
        return out

    def forward(self, inputs, mode='loss'):
        return self.losses(inputs, self.backbone(inputs))


def trained(model, x):
    """The gradients that the wrapper steps along, by parameter name."""
    wrapper = GradientAggregationOptimWrapper(
        torch.optim.SGD(model.parameters(), lr=0.1), dict(type='MGDA'), level='features', rescale=None, seed=0
    )
    seen = {}
    wrapper.optimizer.register_step_pre_hook(
        lambda *_: seen.update({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    )
    with wrapper.optim_context(model):
        losses = model(inputs=x, mode='loss')
    wrapper.update_params(sum(losses.values()))
    assert wrapper.watch.tensors == []
    return seen


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('bypass', [False, True], ids=['one pass', 'with a bypass'])
def test_weights_come_from_the_heads_alone(bypass, form):
    torch.manual_seed(0)
    model, x = TwoMaps(bypass, form), torch.randn(5, 3)
    leaves = [part.detach().requires_grad_() for part in model.read(model.backbone(x))]
    losses = list(model.losses(x, model.put(leaves)).values())
    gradients = [torch.autograd.grad(loss, leaves, retain_graph=True) for loss in losses]
    rows = torch.stack([torch.cat([part.reshape(-1) for part in parts]) for parts in gradients])
    aggregator = MGDA()
    aggregator(rows)
    weights = aggregator.last_weights.float()

    losses = torch.stack(list(model(x).values()))
    shared = list(model.backbone.parameters())
    expected = torch.autograd.grad(losses @ weights, shared, retain_graph=True)
    own = torch.autograd.grad(losses.sum(), list(model.heads.parameters()))
    found = trained(model, x)
    names = [name for name, _ in model.named_parameters()]
    by_name = {id(p): name for name, p in model.named_parameters()}
    assert set(found) == set(names)
    for parameters, gradients in ((shared, expected), (model.heads.parameters(), own)):
        for parameter, gradient in zip(parameters, gradients):
            torch.testing.assert_close(found[by_name[id(parameter)]], gradient)


@pytest.mark.parametrize('bypass', [False, True])
def test_a_bypass_is_seen(bypass):
    model, watch = TwoMaps(bypass), FeatureWatch('backbone')
    with watch.watch(model):
        losses = {name[0]: loss for name, loss in model(torch.randn(5, 3)).items()}
    assert watch.is_only_way(losses, list(model.backbone.parameters())) is not bypass
    assert watch.is_only_way(losses, [model.backbone.first.weight])


@pytest.mark.parametrize('form', FORMS)
def test_heads_train_on_what_a_frozen_module_puts_out(form):
    torch.manual_seed(0)
    model, x = TwoMaps(form=form), torch.randn(5, 3)
    model.backbone.requires_grad_(False)
    expected = torch.autograd.grad(sum(model(x).values()), list(model.heads.parameters()))
    found = trained(model, x)
    assert len(found) == len(expected)
    for gradient, value in zip(expected, found.values()):
        torch.testing.assert_close(gradient, value)


def test_a_module_that_did_not_run_is_named():
    model = TwoMaps()
    model.spare = nn.Linear(3, 3)
    wrapper = GradientAggregationOptimWrapper(
        torch.optim.SGD(model.parameters(), lr=0.1), dict(type='MGDA'), level='features', features='spare'
    )
    with pytest.raises(UserError, match="features='spare': the module put out nothing"):
        model.train_step(dict(inputs=torch.randn(5, 3)), wrapper)
