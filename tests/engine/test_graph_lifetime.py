"""No forward's graph outlives its own group's step."""

import weakref

import pytest
import torch

from mtl_plugins.engine import SelectiveTaskGroupOptimWrapper

from .toy import TASKS, make_model, toy_batch


@pytest.mark.parametrize('idle_without_graph', [True, False])
def test_losses_are_gone_at_the_next_forward(idle_without_graph):
    """Also for models that give idle heads a graph, whose backward never frees it."""
    model = make_model(idle_without_graph=idle_without_graph)
    wrapper = SelectiveTaskGroupOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), seed=0)
    graphs, alive = [], []
    model.register_forward_pre_hook(lambda *_: alive.append(sum(graph() is not None for graph in graphs)))
    model.register_forward_hook(
        lambda _, args, out: graphs.extend(weakref.ref(loss) for loss in out.values() if loss.requires_grad)
    )
    for i in range(2):
        model.train_step(toy_batch(i), wrapper)
    assert len(graphs) == 2 * len(TASKS) * (1 if idle_without_graph else len(TASKS))
    assert alive == [0] * (2 * len(TASKS))
