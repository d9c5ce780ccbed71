"""Rows are held once: not those of the last batch beside them, nor copies of what is made of them."""

from types import SimpleNamespace

import torch
from torch import nn

from mtl_plugins.engine.optimizers import AdaTask
from mtl_plugins.experiments.measuring.memory import peak_memory

from .all_methods import build
from .test_gramian_memory import Net, batch

TASKS, LAYER = 3, 64 * 64 + 64
WIDTH = 6 * LAYER


def peak(key):
    model = Net('layers')
    wrapper = build(key, model)
    data = batch('layers')
    system = SimpleNamespace(model=model, optimizer=wrapper.optimizer, step=lambda: model.train_step(data, wrapper))
    system.step()
    return peak_memory(system, batches=3)


def test_beside_ordinary_training_rows_are_held_once():
    ordinary = peak('gd')
    # The step of a parameter takes two tensors as large as its rows, and their sum.
    assert peak('ada_task') <= ordinary + 4 * TASKS * WIDTH + 4 * (2 * TASKS + 2) * 64 * 64
    # Rows here and where each task was moved to; beside them, for the task at hand: where to, the weights to come back
    # to, and the row that arrives; for the sum over two kinds of rows as much. Products take some columns in float64.
    assert peak('f_mtl') <= ordinary + 4 * (2 * TASKS + 3) * WIDTH + 8 * TASKS * min(WIDTH, 2**14)


def test_all_tasks_are_advanced_in_place_as_some_are_by_themselves():
    draw = torch.Generator().manual_seed(0)
    gradients = [torch.randn(3, 4, 2, generator=draw) for _ in range(3)]
    for options in (dict(base='Adam'), dict(base='Adam', amsgrad=True), dict(base='RMSprop'), dict(base='Adagrad')):
        ends = []
        for order in ([0, 1, 2], [2, 0, 1]):
            parameter = nn.Parameter(torch.ones(4, 2))
            optimizer = AdaTask([parameter], lr=0.1, **options)
            for rows in gradients:
                optimizer.step(task_grads={parameter: rows[order]}, task_ids=order, num_tasks=3)
            ends.append((parameter.detach().clone(), optimizer.state[parameter]))
        torch.testing.assert_close(ends[0][0], ends[1][0])
        for name, values in ends[0][1].items():
            assert torch.equal(values, ends[1][1][name]), name
