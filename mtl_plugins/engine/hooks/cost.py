"""Says before training what is trained, on what, how, at what cost, and where it is written."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mtl_plugins.registry import HOOKS

from ..optim_wrappers import StepOptimWrapper
from ..optim_wrappers.selective import group_strategy
from ..running import batch_size, length


@HOOKS.register_module()
class CostHook(Hook):
    """Logs model, data and length of a training, its method with the cost per batch, and the loss keys of each task.

    The cost is in units of ordinary training (GD), where a backward pass is counted as two forward passes. While
    training, ``num_groups``, ``forwards`` and ``backwards`` in the log follow the actual batches. Which losses make
    which task is known, and logged, after the first batch.
    """

    priority = 'LOW'

    def __init__(self) -> None:
        self._first = True

    def before_train(self, runner: Any) -> None:
        """Write the lines."""
        self._first = True
        runner.logger.info(training_line(runner))
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, StepOptimWrapper):
            runner.logger.info(cost_line(wrapper))
        else:
            runner.logger.info(f'{type(wrapper).__name__}: the sum of all losses, no multi-task method')
        runner.logger.info(f'checkpoints and figures: {runner.work_dir}; log: {runner.logger.log_file}')

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Say which losses make which task."""
        if self._first and outputs and isinstance(runner.optim_wrapper, StepOptimWrapper):
            runner.logger.info(tasks_line(runner.optim_wrapper, outputs))
        self._first = False


def training_line(runner: Any) -> str:
    """What is trained on what, for how long.

    Args:
        runner: A Runner whose training loop is built.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    backbone = getattr(model, 'backbone', None)
    inside = f', backbone {type(backbone).__name__}' if backbone is not None else ''
    loader = runner.train_dataloader
    size, images = batch_size(loader), length(loader.dataset)
    batches = f' in batches of {size}' * bool(size)
    ranks = f' on each of {runner.world_size} processes' * (runner.world_size > 1)
    samples = 'samples' if images is None else f'{images:,} samples'
    return (
        f'training {type(model).__name__} ({trained:,} trainable parameters{inside}) on {samples} of '
        f'{type(loader.dataset).__name__}{batches}{ranks} for {runner.max_iters:,} iterations'
    )


def tasks_line(wrapper: StepOptimWrapper, outputs: dict[str, Any]) -> str:
    """The losses behind each task.

    Args:
        wrapper: Knows which loss belongs to which task.
        outputs: What a step returned for the log.
    """
    losses: dict[str, list[str]] = {task: [] for task in wrapper.task_names}
    for key in wrapper.losses.loss_keys(outputs):
        if wrapper.losses.task_of(key) in losses:  # 'loss', their sum, is in the log too
            losses[wrapper.losses.task_of(key)].append(key)
    found = (f'{task} = {" + ".join(keys) or "no loss in this batch"}' for task, keys in losses.items())
    return f'tasks: {"; ".join(found)}'


def cost_line(wrapper: StepOptimWrapper) -> str:
    """One sentence on what a batch costs now, and what may change it."""
    cost = wrapper.cost_per_batch()
    tasks = wrapper.task_names
    probes = f' and {float(cost.probes):.2g} forward without graph' if cost.probes else ''
    probes += f' and {cost.partial} partial backward that ends at the last shared layer' if cost.partial else ''
    line = (
        f"method '{wrapper.method_name}' on {len(tasks) if tasks else '?'} tasks: {cost.forwards} forward, "
        f'{cost.backwards} backward{probes} per batch, about {cost.relative:.2g} x GD'
    )
    for combiner in filter(None, (getattr(strategy, 'combiner', None) for strategy in wrapper.strategies)):
        line += f'; {combiner.aggregator.note}' if combiner.aggregator.note else ''
    groups = group_strategy(wrapper)
    line += '' if groups is None else groups.cost_note()
    if wrapper._accumulative_counts > 1:
        line += f'; per micro-batch, of {wrapper._accumulative_counts}, plus one forward without graph per measurement'
    return line
