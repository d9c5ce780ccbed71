"""Peak memory of training steps above the memory that the model holds between steps."""

from mtl_plugins.runtime.memory import PeakMemory

from .timing import TrainingStep


def peak_memory(system: TrainingStep, batches: int = 2) -> int:
    """Peak bytes of ``batches`` steps above the idle model: weights, optimizer state and batch do not count.

    See :class:`mtl_plugins.runtime.memory.PeakMemory`. The system must have been stepped before, so that its optimizer
    has its state. Gradients are cleared first; a system that keeps them from one step to the next pays for them, hence
    more than one batch.
    """
    system.optimizer.zero_grad(set_to_none=True)
    with PeakMemory(next(system.model.parameters()).device) as memory:
        for _ in range(batches):
            system.step()
    return memory.extra
