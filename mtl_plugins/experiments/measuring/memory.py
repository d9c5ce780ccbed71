"""Peak memory of training steps above the memory that the model holds between steps."""

from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile

from .steps import TrainingStep


def peak_memory(system: TrainingStep, batches: int = 2) -> int:
    """Peak bytes of ``batches`` steps above the idle model: weights, optimizer state and batch do not count.

    On a GPU this is what torch's allocator reports. On a CPU it is the largest sum of live tensor bytes, from the
    allocations and frees that torch's profiler records: exact and repeatable, where the resident size of the process
    depends on how the C library reuses freed pages. Scratch space inside the matrix libraries is not seen.

    The system must have been stepped before, so that its optimizer has its state. Gradients are cleared first; a
    system that keeps them from one step to the next pays for them, hence more than one batch.
    """
    system.optimizer.zero_grad(set_to_none=True)
    if next(system.model.parameters()).is_cuda:
        return _cuda_peak(system, batches)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(batches):
            system.step()
    live = peak = 0
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == '[memory]']
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def _cuda_peak(system: TrainingStep, batches: int) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    idle = torch.cuda.memory_allocated()
    for _ in range(batches):
        system.step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - idle
