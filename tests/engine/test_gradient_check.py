"""The check of the gradient before each step: exact for any finite number, however large."""

import math

import pytest
import torch

from mtl_plugins.engine import MultiTaskOptimWrapper


@pytest.mark.parametrize(
    ('value', 'moves'),
    [(1.0, True), (0.0, True), (1e30, True), (math.inf, False), (-math.inf, False), (math.nan, False)],
)
def test_only_non_finite_gradients_skip_the_step(value, moves):
    parameters = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2))]
    wrapper = MultiTaskOptimWrapper(torch.optim.SGD(parameters, lr=1e-35), tasks=['a'])
    parameters[1].register_hook(lambda gradient: torch.tensor([1.0, value]))
    wrapper.step_tasks(lambda active=None, *, grad=True: dict(a=sum(p.sum() for p in parameters)))
    assert bool(torch.cat(parameters).any()) is moves
    assert ('gradient' in wrapper.guard.total) is not moves
