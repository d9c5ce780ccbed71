"""Counting the work of one training step: forwards, backwards, steps, FLOPs, reads by the host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .host_reads import HostReads, cuda_synchronisations
from .systems import System


@dataclass
class Counts:
    """Work of one batch.

    Attributes:
        forwards: Forwards of the backbone with graph.
        probes: Forwards of the backbone without.
        backwards: Backwards through the backbone.
        steps: Steps of the optimizer.
        head_forwards: Forwards of all heads together.
        head_forwards_with_graph: Those of them with graph.
        head_backwards: Backwards through all heads together.
        host_reads: How often the host waits for the device. The check of the labels, which only runs on a CPU, is left
            out.
        flops: Floating point operations of matrix products and convolutions.
    """

    forwards: int = 0
    probes: int = 0
    backwards: int = 0
    steps: int = 0
    head_forwards: int = 0
    head_forwards_with_graph: int = 0
    head_backwards: int = 0
    host_reads: int = 0
    flops: int = 0


def count_step(system: System, batch: dict[str, Any]) -> Counts:
    """Count the work of a step; trains the system on two batches. It must have been stepped before."""
    counts = Counts()
    reads = HostReads(_device_tensors(system.model, batch))
    with ExitStack() as stack:
        stack.enter_context(_watched(system, counts))
        stack.enter_context(_without_label_checks(system.model))
        if next(system.model.parameters()).is_cuda:
            synchronisations = stack.enter_context(cuda_synchronisations())
        else:
            synchronisations = None
            stack.enter_context(reads)
        system.step()
    counts.host_reads = reads.count if synchronisations is None else len(synchronisations)
    with FlopCounterMode(display=False) as flops:
        system.step()
    counts.flops = int(flops.get_total_flops())
    return counts


@contextmanager
def _watched(system: System, counts: Counts) -> Iterator[None]:
    """Count by public hooks; a backward is seen by the gradient that it gives to a module's first parameter."""
    model = system.model
    handles = [
        model.backbone.register_forward_pre_hook(lambda *_: _add(counts, _kind('forwards', 'probes'))),
        _first_parameter(model.backbone).register_post_accumulate_grad_hook(lambda _: _add(counts, 'backwards')),
        system.optimizer.register_step_post_hook(lambda *_: _add(counts, 'steps')),
    ]

    def head_runs(*_: Any) -> None:
        _add(counts, 'head_forwards')
        if torch.is_grad_enabled():
            _add(counts, 'head_forwards_with_graph')

    for head in model.heads.values():
        handles.append(head.register_forward_pre_hook(head_runs))
        handles.append(
            _first_parameter(head).register_post_accumulate_grad_hook(lambda _: _add(counts, 'head_backwards'))
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _without_label_checks(model: nn.Module) -> Iterator[None]:
    """Heads look at the labels only on a CPU, where it costs no wait; on a GPU they do not."""
    for head in model.heads.values():
        head.check_labels = lambda *args: None
    try:
        yield
    finally:
        for head in model.heads.values():
            del head.check_labels


def _add(counts: Counts, name: str) -> None:
    setattr(counts, name, getattr(counts, name) + 1)


def _kind(with_graph: str, without: str) -> str:
    return with_graph if torch.is_grad_enabled() else without


def _first_parameter(module: nn.Module) -> nn.Parameter:
    return next(p for p in module.parameters() if p.requires_grad)


def _device_tensors(model: nn.Module, batch: dict[str, Any]) -> list[Tensor]:
    targets = [field.data for sample in batch['data_samples'] for field in sample.values()]
    return [*model.parameters(), *model.buffers(), *batch['inputs'], *targets]
