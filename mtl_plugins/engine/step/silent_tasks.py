"""What trains nothing without a word: losses and gradients of exactly zero, a learning rate of 0."""

import logging

import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.optim import Optimizer

from .parameters import nodes_behind

LOOKS = 3
"""Losses of zero per task that turn out to have a gradient after all, before no further one is looked at."""


class SilentTasks:
    """Warns, once per task, where "no label here" seems to be reported as a loss of zero.

    A loss that is not zero costs nothing; one that is zero costs a backward of that loss until the task is settled.
    """

    def __init__(self) -> None:
        self._settled: dict[str, int] = {}
        self._found: set[str] = set()
        self._said_nothing = False
        self._still = 0
        self._said_rate = False

    def wants(self, task: str) -> bool:
        """Whether a loss of zero of this task is still to be looked at."""
        return self._settled.get(task, 0) < LOOKS

    def look(self, task: str, loss: Tensor) -> None:
        """Look at the gradient of a loss that is zero; its graph stays."""
        leaves = [node.variable for node in nodes_behind([loss]) if hasattr(node, 'variable')]
        gradients = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True) if leaves else ()
        if any(gradient is not None and bool(gradient.any()) for gradient in gradients):
            self._settled[task] = self._settled.get(task, 0) + 1
            return
        self._found.add(task)
        self.warn(task)

    def found(self, task: str) -> bool:
        """Whether it was found on this rank."""
        return task in self._found

    def warn(self, task: str) -> None:
        """Say it, unless it has been said."""
        if not self.wants(task):
            return
        self._settled[task] = LOOKS
        print_log(
            f"the loss of task '{task}' and its gradient are exactly zero in this batch. If that means that the batch "
            'has no label for the task, let the model say so: methods that look at losses (famo, gls, ...) otherwise '
            f"follow a task that is not there. Name the entry of the model's output that counts its labels in "
            f"optim_wrapper.num_valid=dict({task}='KEY'), or return '{task}.num_valid'",
            logger='current',
            level=logging.WARNING,
        )

    def watch_rate(self, optimizer: Optimizer) -> None:
        """Say, once, that steps are taken at a learning rate of 0; at one step alone many schedules end."""
        moves = any(isinstance(rate, Tensor) or rate for rate in (group.get('lr') for group in optimizer.param_groups))
        self._still = 0 if moves else self._still + 1
        if self._still == 2 and not self._said_rate:
            self._said_rate = True
            print_log(
                'the learning rate was 0 in two steps running, so that they moved nothing. If it stays so, '
                'the schedule ended too early: end in param_scheduler is where it is over',
                logger='current',
                level=logging.WARNING,
            )

    def warn_of_nothing(self) -> None:
        """Say, once, that a batch trains nothing."""
        if self._said_nothing:
            return
        self._said_nothing = True
        print_log(
            'no task has a loss with a graph and with labels in this batch, so that it moves nothing. If that is so in '
            'all batches: is everything below the losses frozen, or does the training run within torch.no_grad()?',
            logger='current',
            level=logging.WARNING,
        )
