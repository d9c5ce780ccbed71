"""What the two ranks of test_all_methods_distributed.py run: two steps of every method in every case."""

from __future__ import annotations

from .all_methods import CASES, ROWS, build, record_gradients
from .ddp_worker import wrap
from .toy import flat, make_model, toy_batch


def two_steps(key, case, rank):
    model = wrap(make_model())
    wrapper = build(key, model, lr=1e-2)
    gradients = record_gradients(wrapper)
    for number in (0, 10):
        model.train_step(toy_batch(rank + number, **CASES[case][rank]), wrapper)
    return dict(weights=flat(model), gradients=gradients, state=wrapper.state_dict()['mtl']['strategy'])


def job(rank):
    return {(key, case): two_steps(key, case, rank) for key in ROWS for case in CASES}
