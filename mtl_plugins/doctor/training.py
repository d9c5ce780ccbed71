"""One training step on a real batch, with everything that can be seen while it runs."""

import copy
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mtl_plugins.engine.hooks.cost import cost_line
from mtl_plugins.engine.optim_wrappers import StepOptimWrapper
from mtl_plugins.engine.step.batch_norm import batch_norms
from mtl_plugins.engine.step.capture import loss_forward, watching_losses
from mtl_plugins.engine.step.losses import LossTable, is_loss_key
from mtl_plugins.engine.step.parameters import ParameterTable
from mtl_plugins.engine.step.precision import Precision
from mtl_plugins.errors import UserRuntimeError
from mtl_plugins.runtime.memory import PeakMemory, format_bytes, tensor_bytes

from .report import Step

REPEATS = 3
PATIENCE = 3.0
"""Seconds after which no further step is timed."""
MOST_PLACES = 3
"""Parts of the model that a line about parameters names."""


class NonFiniteLossError(UserRuntimeError):
    """A loss or gradient of the very first batch is not finite."""


def show_optimizer(step: Step, wrapper: OptimWrapper) -> None:
    """Wrapper and parameter groups; groups of equal settings are counted together, by the configured rates."""
    rows = []
    for name, optimizer in _optimizers(wrapper):
        groups: dict[tuple, list[int]] = {}
        for group in optimizer.param_groups:
            rate = group.get('initial_lr', group.get('lr'))
            counts = groups.setdefault((rate, group.get('weight_decay')), [0, 0])
            counts[0] += len(group['params'])
            counts[1] += sum(p.numel() for p in group['params'])
        kind = f'{name}{type(optimizer).__name__}'
        rows += [(kind, f'{lr:.3g}', f'{decay or 0:.3g}', *counts) for (lr, decay), counts in groups.items()]
        first = optimizer.param_groups[0]
        if 'initial_lr' in first:
            step.say(f'{name}the learning rate starts at {first["lr"]:.3g} (configured: {first["initial_lr"]:.3g})')
    step.summary = type(wrapper).__name__
    step.table('optimizer', 'lr', 'weight decay', 'tensors', 'parameters', rows=rows)


def _optimizers(wrapper: OptimWrapper) -> Iterator[tuple[str, torch.optim.Optimizer]]:
    if isinstance(getattr(wrapper, 'optimizer', None), torch.optim.Optimizer):
        yield '', wrapper.optimizer
    else:
        for name, inner in wrapper.items():
            yield f'{name}: ', inner.optimizer


def run_steps(step: Step, model: nn.Module, wrapper: OptimWrapper, batch: Any, device: torch.device) -> None:
    """Train on one batch: the first time for losses and memory, then a few times for the clock.

    Raises:
        NonFiniteLossError: If a loss or the gradient is not finite.
    """
    model.train()
    if isinstance(wrapper, StepOptimWrapper):
        wrapper.notes_one_task = False  # said below, as a note
    counts = getattr(wrapper, '_accumulative_counts', 1)
    wrapper.initialize_count_status(model, 0, (1 + REPEATS) * counts)  # the batches below, however short the run is
    with first_losses(model) as losses, PeakMemory(device) as memory:
        _train(model, wrapper, batch, counts)
    _show_losses(step, losses, wrapper)
    _show_memory(step, model, wrapper, memory)
    _check_finite(losses, wrapper)
    times = []
    begun = time.perf_counter()
    while len(times) < REPEATS and (not times or time.perf_counter() - begun < PATIENCE):
        copies = [copy.deepcopy(batch) for _ in range(counts)]
        start = time.perf_counter()
        for one in copies:
            model.train_step(one, wrapper)
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        times.append((time.perf_counter() - start) / counts)
    step.summary = f'{statistics.median(times):.3f} s per batch on {device.type} (without loading)'
    if isinstance(wrapper, StepOptimWrapper):
        step.say(cost_line(wrapper))
    else:
        step.say(f'{type(wrapper).__name__}: the sum of all losses, no multi-task method (--method chooses one)')
    _show_batch_norm(step, model, wrapper)


def _train(model: nn.Module, wrapper: OptimWrapper, batch: Any, counts: int) -> None:
    for _ in range(counts):
        # A preprocessor may pad the targets in place.
        model.train_step(copy.deepcopy(batch), wrapper)


@contextmanager
def first_losses(model: nn.Module) -> Iterator[dict[str, Any]]:
    """Collects the loss dict of the first ``mode='loss'`` forward inside, as numbers."""
    found: dict[str, Any] = {}

    def after(args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        if isinstance(output, Mapping) and not found:
            for key, value in output.items():
                parts = value if isinstance(value, (list, tuple)) else [value]
                parts = [part.detach().float() for part in parts if isinstance(part, Tensor) and part.numel()]
                found[key] = sum(float(part.mean() if is_loss_key(key) else part.sum()) for part in parts)

    with watching_losses(model, after):
        yield found


def _show_losses(step: Step, losses: dict[str, float], wrapper: OptimWrapper) -> None:
    table = loss_table(wrapper)
    valid = table.collect(losses).num_valid
    rows = []
    for key in table.loss_keys(losses):
        task = table.task_of(key)
        count = f'{float(valid[task]):,.0f}' if task in valid else 'not reported'
        rows.append((key, task, f'{losses[key]:.4g}', count))
        if valid.get(task) == 0:
            step.note(f"task '{task}' has no valid element in this batch")
    if rows:
        step.table('loss key', 'task', 'first loss', 'valid elements', rows=rows)
    absent = [task for task in table.tasks or () if task not in {row[1] for row in rows}]
    if absent:
        step.note(f'no loss in this batch for {", ".join(absent)}')
    if isinstance(wrapper, StepOptimWrapper) and len(wrapper.task_names) == 1:
        step.note(wrapper.one_task_note())


def loss_table(wrapper: OptimWrapper) -> LossTable:
    """How loss keys map to tasks; for a plain wrapper as a multi-task one would do by default."""
    return wrapper.losses if isinstance(wrapper, StepOptimWrapper) else LossTable(None)


def _check_finite(losses: dict[str, float], wrapper: OptimWrapper) -> None:
    bad = [key for key, value in losses.items() if value - value != 0]
    if bad:
        raise NonFiniteLossError(
            f'not finite at the first batch: {", ".join(bad)}. Look at the labels of that task (a target outside its '
            'range, an image without any label and a loss that divides by 0) and at its loss'
        )
    if isinstance(wrapper, StepOptimWrapper) and wrapper.guard.total:
        found = ', '.join(map(wrapper.guard.describe, wrapper.guard.total))
        raise NonFiniteLossError(
            f'the losses are finite, but what follows from them is not: {found}. Look for square roots, logarithms and '
            'divisions at 0 in the losses, and at the learning rate'
        )


def _show_memory(step: Step, model: nn.Module, wrapper: OptimWrapper, memory: PeakMemory) -> None:
    weights = tensor_bytes(list(model.parameters())) + tensor_bytes(list(model.buffers()))
    gradients = tensor_bytes([p for p in model.parameters() if p.requires_grad])
    state = sum(tensor_bytes(dict(optimizer.state)) for _, optimizer in _optimizers(wrapper))
    activations = max(0, memory.extra - gradients - state)
    total = weights + gradients + state + activations
    step.say(
        f'memory, about: parameters {format_bytes(weights)}, gradients {format_bytes(gradients)}, optimizer '
        f'{format_bytes(state)}, activations {format_bytes(activations)}; together {format_bytes(total)} at the peak'
    )


def _show_batch_norm(step: Step, model: nn.Module, wrapper: OptimWrapper) -> None:
    layers = len(batch_norms(model))
    if not layers:
        return
    if not isinstance(wrapper, StepOptimWrapper):
        step.say(f'{layers} BatchNorm layers')
        return
    what = dict(
        first='their statistics move once per batch',
        every='their statistics move with every forward of a batch',
        active='their statistics move with the forwards that train them',
    )
    step.say(f"{layers} BatchNorm layers, bn_stats='{wrapper.bn_stats}': {what[wrapper.bn_stats]}")


def show_parameters(step: Step, model: nn.Module, wrapper: OptimWrapper, batch: Any) -> None:
    """Which parameters are shared, belong to one task, or are reached by no loss."""
    table, losses = ParameterTable(model), loss_table(wrapper)
    precision = wrapper.precision if isinstance(wrapper, StepOptimWrapper) else Precision()
    with precision.autocast(next(model.parameters()).device.type):
        table.observe(losses.collect(loss_forward(model, copy.deepcopy(batch))))
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    tasks = [task for task in losses.tasks or sorted(table.seen) if task in table.seen]
    groups = [('shared', table.shared())] + [(f'{task} alone', table.own(task)) for task in tasks]
    unused = table.unused()
    groups.append(('reached by no loss', unused))
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    groups.append(('frozen', frozen))
    rows = [(who, len(names), sum(sizes[n] for n in names), _example(names)) for who, names in groups if names]
    step.summary = f'{sum(sizes.values()):,} in {len(sizes)} tensors'
    step.table('used by', 'tensors', 'parameters', 'which', rows=rows)
    if len(tasks) > 1 and not table.shared():
        step.note('the tasks share no parameter: multi-task methods have nothing to balance')
    if unused:
        step.note(f'{len(unused)} trainable tensors are reached by no loss of this batch, such as {unused[0]}')


def _example(names: list[str]) -> str:
    """Where the names lie: for each part of the model, the place that its names have in common."""
    parts: dict[str, list[list[str]]] = {}
    for name in names:
        parts.setdefault(name.split('.')[0], []).append(name.split('.'))
    shown = [_common_place(paths) for paths in list(parts.values())[:MOST_PLACES]]
    return ', '.join(shown) + (f' and {len(parts) - MOST_PLACES} more parts' if len(parts) > MOST_PLACES else '')


def _common_place(paths: list[list[str]]) -> str:
    if len(paths) == 1:
        return '.'.join(paths[0])
    depth = next(depth for depth in range(1, len(paths[0]) + 1) if len({tuple(path[:depth]) for path in paths}) > 1)
    return f'{".".join(paths[0][: depth - 1])}.*'
