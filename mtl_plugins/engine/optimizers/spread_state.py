"""Optimizers whose state is spread over ranks (ZeRO-1): ``ZeroRedundancyOptimizer`` of torch, or as MMEngine has it."""

from typing import Any

from mmengine.dist import get_rank
from torch.optim import Optimizer

from mtl_plugins.errors import UserRuntimeError


def is_spread(optimizer: Optimizer) -> bool:
    """Whether each rank holds the state of some parameters only."""
    return hasattr(optimizer, 'consolidate_state_dict')


def state_on_first(optimizer: Optimizer) -> dict[str, Any] | None:
    """The whole state on rank 0, as an ordinary optimizer has it; None on the others. A collective call."""
    from torch.distributed.optim import ZeroRedundancyOptimizer

    ZeroRedundancyOptimizer.consolidate_state_dict(optimizer, to=0)
    # Not the method itself: MMEngine's exchanges once more, and only rank 0 saves.
    return ZeroRedundancyOptimizer.state_dict(optimizer) if get_rank() == 0 else None


def not_gathered(what: str) -> UserRuntimeError:
    """That a state which is spread over the processes has to be brought together before it is asked for."""
    return UserRuntimeError(
        f'the state of {what} is spread over the processes: call gather_state() of the optimizer wrapper on all of '
        'them after the last step, then state_dict() on the first; RNGStateHook does it before every save'
    )
