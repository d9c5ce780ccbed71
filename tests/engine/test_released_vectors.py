"""The stgu_released preset, fed with the losses of the authors' executed program, gives its affinity exactly."""

import json
from pathlib import Path

import pytest
import torch

from mtl_plugins.engine import ReleasedTaskGroupOptimWrapper

RECORDS = json.loads((Path(__file__).parents[1] / 'data' / 'stgu_affinity.json').read_text())


def batches(trace):
    """The trace cut into batches of ``(group, losses, affinity)``."""
    batch = []
    for entry in trace:
        if isinstance(entry, str):
            yield batch
            batch = []
        else:
            batch.append((entry['group'], entry['losses_before_this_groups_step'], entry['affinity_after_update']))
    if batch:
        yield batch


@pytest.mark.parametrize('record', RECORDS, ids=[record['what'][:40] for record in RECORDS])
def test_affinity_after_each_update(record, monkeypatch):
    tasks = record['tasks']
    parameter = torch.nn.Parameter(torch.zeros(()))
    wrapper = ReleasedTaskGroupOptimWrapper(
        torch.optim.SGD([parameter], lr=0.0),
        tasks=tasks,
        affinity=dict(type='ReleasedAffinity', decay=record['beta']),
    )
    seen = []
    step_group = wrapper._step_group
    monkeypatch.setattr(
        wrapper, '_step_group', lambda *args: (step_group(*args), seen.append(wrapper.affinity.matrix))[0]
    )
    for batch in batches(record['trace']):
        order = [[tasks.index(task) for task in group] for group, _, _ in batch]
        monkeypatch.setattr(wrapper, '_batch_order', lambda order=order: order)
        forwards = iter([losses for _, losses, _ in batch])

        def closure(active=None, *, grad=True, forwards=forwards):
            values = next(forwards)
            return {t: torch.tensor(v, dtype=torch.float64) + 0 * parameter for t, v in zip(tasks, values)}

        seen.clear()
        wrapper.step_tasks(closure)
        assert [matrix.tolist() for matrix in seen] == [expected for _, _, expected in batch]
