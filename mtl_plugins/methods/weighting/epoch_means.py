"""Mean losses per epoch in a loop that counts iterations."""

import torch
from torch import Tensor

from mtl_plugins.methods.naming import RefusedValueError

from .base import State, Weighting


class EpochLengthError(RefusedValueError, RuntimeError):
    """Nobody told how many iterations an epoch takes."""


class EpochMeans:
    """Averages the losses of every task over the batches of an epoch that had it.

    Its entries live in the state of the weighting: ``epoch_sum``, ``epoch_count`` and ``epoch_position``.
    """

    @staticmethod
    def start(num_tasks: int) -> State:
        """Return the entries to add to the state of the weighting."""
        return dict(
            epoch_sum=torch.zeros(num_tasks, dtype=torch.float64),
            epoch_count=torch.zeros(num_tasks, dtype=torch.long),
            epoch_position=0,
        )

    @staticmethod
    def add(owner: Weighting, state: State, losses: Tensor, rows: Tensor) -> Tensor | None:
        """Take the losses of one step.

        Returns:
            At the end of an epoch the K means, NaN for tasks that were never present in it; else None.

        Raises:
            EpochLengthError: If the length of an epoch has not been told.
        """
        if owner.epoch_length is None:
            raise EpochLengthError(
                f'{type(owner).__name__} averages over epochs, but was not told how many iterations one takes: call '
                'set_epoch_length(iterations) before training (optim_wrapper.weighting has it), which in a Runner of '
                'MMEngine happens by itself if the length of the dataset is known'
            )
        state['epoch_sum'][rows] += losses
        state['epoch_count'][rows] += 1
        state['epoch_position'] += 1
        if state['epoch_position'] < owner.epoch_length:
            return None
        means = state['epoch_sum'] / state['epoch_count']
        state.update(EpochMeans.start(len(means)))
        return means
