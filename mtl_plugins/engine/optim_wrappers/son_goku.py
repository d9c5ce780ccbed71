"""SON-GOKU: tasks without conflict step together, one colour of the graph of conflicts per batch."""

from typing import Any

from torch.optim import Optimizer

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.registry import OPTIM_WRAPPERS

from ..step_cost import StepCost, StepSetup
from .selective import SelectiveTaskGroupOptimWrapper


@OPTIM_WRAPPERS.register_module()
class SonGokuOptimWrapper(SelectiveTaskGroupOptimWrapper):
    """Turns of STGU over the colours of a graph of conflicts (Patapati and Srinivasan, arXiv 2509.16959).

    In each batch one group steps on the sum of its losses; the gradient of each member is taken by itself, so that its
    average can be compared with those of the others. Every ``regroup_interval`` batches, once the present groups had
    their turn, the graph is coloured anew. All tasks are one group at first.

    It differs from the authors' program in three points: the order of the groups is drawn for each turn, a new
    colouring waits for the end of a turn, and its ``min_updates_per_cycle``, which puts a task into several groups, is
    not here.

    Args:
        optimizer: The optimizer that is stepped.
        **kwargs: Any argument of :class:`SelectiveTaskGroupOptimWrapper`; here ``regroup_interval=32``,
            ``groups_per_batch=1``, neither warm-up nor probes, ``affinity=dict(type='GradientCosine')`` and
            ``grouper=dict(type='GraphColouring')``.
    """

    facts = MethodFacts(
        'Colours of a graph of conflicts take turns (SON-GOKU)',
        paper='Patapati and Srinivasan, 2025',
        arxiv='2509.16959',
        verified='step, averages and colouring: to slow versions in the tests; read in the code of the authors',
    )
    method_name = 'son_goku'

    own_defaults = dict(
        affinity=dict(type='GradientCosine'),
        grouper=dict(type='GraphColouring'),
        warmup_iters=0,
        regroup_interval=32,
        probe_interval=0,
        groups_per_batch=1,
    )

    def __init__(self, optimizer: Optimizer, **kwargs: Any) -> None:
        super().__init__(optimizer, **{**self.own_defaults, **kwargs})

    @classmethod
    def cost(cls, setup: StepSetup) -> StepCost:
        """A backward over the shared part for each member of the group; at most, and at first, that is every task."""
        return StepCost(1, setup.num_tasks, 1)

    def cost_note(self) -> str:
        """That fewer tasks in a group are fewer backwards."""
        return ' (at most: a backward for each task of the group that has its turn)'

    def _set_up(self, tasks: tuple[str, ...]) -> None:
        super()._set_up(tasks)
        self.groups = [list(range(len(tasks)))]
