"""What a step writes to the log."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .step.batch import StepBatch

if TYPE_CHECKING:
    from .optim_wrappers.base import StepOptimWrapper


def log_step(wrapper: StepOptimWrapper, batch: StepBatch) -> None:
    """Write the scalars of an optimizer step to the message hub."""

    def write(name: str, value: float) -> None:
        wrapper.message_hub.update_scalar(f'train/{name}', value)

    write('forwards', batch.num_measurements)
    write('backwards', batch.num_backwards)
    weights = {task: weight for task, weight in batch.weights.items() if math.isfinite(weight)}
    if any(weight != 1 for weight in weights.values()):
        for task, weight in weights.items():
            write(f'{task}.weight', weight)
    for task in batch.zero_rows:
        wrapper.zero_rows[task] = wrapper.zero_rows.get(task, 0) + 1
    for task, count in wrapper.zero_rows.items():
        write(f'zero_rows/{task}', count)
    for name, count in wrapper.guard.total.items():
        write(f'nonfinite/{name}', count)
    if wrapper.precision.uses_scaler:
        write('loss_scale', wrapper.precision.loss_scale)
