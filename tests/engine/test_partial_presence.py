"""Every method of the catalogue while tasks come and go from batch to batch, as partial labels let them."""

import random

import pytest
import torch

from .all_methods import ROWS, build
from .toy import TASKS, flat, make_model, toy_batch


@pytest.mark.parametrize('key', ROWS)
def test_any_tasks_in_any_order(key):
    """Forty batches with a random half of the tasks: no error, no loss out of bounds, only the present heads move."""
    model = make_model()
    wrapper = build(key, model, lr=0.02)
    draw = random.Random(key)
    for number in range(40):
        tasks = [task for task in TASKS if draw.random() < 0.5]
        before = {task: flat(model.heads[task]) for task in TASKS}
        torch.manual_seed(number)
        if tasks:
            model.train_step(toy_batch(number, tasks=tasks, invalid=0.3), wrapper)
        moved = [task for task in TASKS if not torch.equal(flat(model.heads[task]), before[task])]
        assert set(moved) <= set(tasks)
    assert torch.isfinite(flat(model)).all()
    assert wrapper.guard.total == {}
    assert not torch.equal(flat(model), flat(make_model()))
