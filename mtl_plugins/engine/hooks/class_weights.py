"""Settles ``class_weight='auto'`` from the training labels."""

from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import nn

from mtl_plugins.datasets.label_counts import class_counts
from mtl_plugins.errors import UserError
from mtl_plugins.models.losses.class_weights import ClassWeights, median_frequency
from mtl_plugins.registry import HOOKS


@HOOKS.register_module()
class ClassWeightHook(Hook):
    """Counts the training labels before the first iteration, where a loss has ``class_weight='auto'``.

    Rank 0 counts, under a progress bar, and tells the others; the counts are kept in the cache. The weights are those
    of :func:`~mtl_plugins.models.losses.median_frequency`. :func:`mtl_plugins.config.build_runner` adds the hook.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Any) -> None:
        """Settle the weights.

        Raises:
            UserError: If the labels cannot be counted.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        loader = runner.train_dataloader
        settle_class_weights(model, loader.dataset, getattr(loader, 'num_workers', 0))


def settle_class_weights(model: nn.Module, dataset: Any, num_workers: int = 0) -> None:
    """Give every loss with ``class_weight='auto'`` the weights of its task.

    Args:
        model: A :class:`~mtl_plugins.models.MultiTaskSegmentor`; others have no such losses.
        dataset: The training set.
        num_workers: Processes that read labels.

    Raises:
        UserError: If the labels cannot be counted, on every rank.
    """
    weights = _unsettled(model)
    if not weights:
        return
    told: list[Any] = [None]
    if is_main_process():
        try:
            counts = class_counts(dataset, {task: model.heads[task].num_labels for task in weights}, num_workers)
            told = [{task: median_frequency(*counts[task]) for task in weights}]
        except Exception as error:
            told = [error]
    broadcast_object_list(told)
    if isinstance(told[0], Exception):
        raise told[0] if is_main_process() else UserError(f'rank 0 could not count the labels: {told[0]}')
    for task, weight in weights.items():
        weight.settle(told[0][task])
        print_log(f"class weights of {task} ('auto', median frequency): {weight!r}", logger='current')


def equal_class_weights(model: nn.Module) -> None:
    """Let all classes count the same where a loss has ``class_weight='auto'``: for measurements without data."""
    for task, weight in _unsettled(model).items():
        weight.settle([1.0] * model.heads[task].num_labels)


def _unsettled(model: nn.Module) -> dict[str, ClassWeights]:
    """Task -> its weights that have to come from labels."""
    found = {}
    for task, head in dict(getattr(model, 'heads', None) or {}).items():
        weight = getattr(getattr(head, 'criterion', None), 'class_weight', None)
        if isinstance(weight, ClassWeights) and weight.auto:
            found[task] = weight
    return found
