"""Products of the tasks' gradients, block by block: no row is ever held as a whole."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from mtl_plugins.methods.aggregation.rows import products

from .gradients import Found, ParameterSplit, SharedLayout, accumulate, add_found
from .graph_blocks import Block, BlockPlanner, Edge
from .reduction import Reducer


class BlockProducts:
    """The K x K products of the tasks' gradients of the shared parameters.

    All tasks' gradients go back through one block of the graph after another. What they are at the block's shared
    parameters is summed over ranks, enters the products, and is dropped; what they are at the tensors that cross the
    block's start waits for the next block. The graph stays.

    Args:
        reducer: Sums over ranks.

    Attributes:
        num_blocks: Number of blocks with shared parameters in the last call.
        held: Numbers held at most in the last call: the largest block's shared parameters K + 1 times, and the tensors
            that cross its ends K times.
    """

    def __init__(self, reducer: Reducer) -> None:
        self._reducer = reducer
        self._planner = BlockPlanner()
        self.num_blocks = 0
        self.held = 0

    def take(
        self, tasks: Sequence[str], losses: Mapping[str, Tensor], split: ParameterSplit, device: torch.device
    ) -> tuple[Tensor, Found]:
        """Differentiate the losses; the gradients of the tasks' own parameters are added to their ``.grad``.

        Args:
            tasks: The K tasks, the same on all ranks.
            losses: Those that this rank has, with a graph.
            split: Who uses which parameter.
            device: Where the gradients are.

        Returns:
            float64 ``[K, K]`` on ``device``, from gradients summed over ranks; and gradients that arrived at
            parameters which their task was not known to reach.

        Raises:
            UserRuntimeError: If the graph cannot be cut.
        """
        shared = split.shared.parameters
        blocks = self._planner.blocks(losses.values(), shared)
        first_use = {p: index for index, block in reversed(list(enumerate(blocks))) for p in block.parameters}
        groups = self._agree(_groups(blocks, first_use, shared), len(shared), device)
        layouts = [SharedLayout([shared[index] for index in group]) for group in groups]
        self._measure(blocks, layouts, len(tasks))
        place = {p: number for number, layout in enumerate(layouts) for p in layout.parameters}
        # Ranks need not see the same graph: a group's gradients are summed once this rank has its last share in them.
        whole = [min((first_use[p] for p in g.parameters if p in first_use), default=len(blocks)) for g in layouts]
        waiting: dict[str, dict[Edge, Tensor]] = {
            task: {(loss.grad_fn, loss.output_nr): torch.ones_like(loss)} for task, loss in losses.items()
        }
        rows: dict[int, Tensor] = {}
        parts: dict[nn.Parameter, Tensor] = {}
        gram = torch.zeros(len(tasks), len(tasks), dtype=torch.float64, device=device)
        found: Found = {task: {} for task in tasks}
        done = 0
        for index in range(len(blocks), -1, -1):
            for task, gradients in _through(blocks[index], waiting, split) if index < len(blocks) else ():
                for parameter in place.keys() & gradients.keys():
                    number = place[parameter]
                    if number not in rows:
                        rows[number] = torch.zeros(len(tasks), layouts[number].width, device=device)
                        parts.update(layouts[number].parts(rows[number]))
                    parts[parameter][tasks.index(task)] += gradients.pop(parameter).reshape(-1)
                own = [parameter for parameter in split.own(task) if parameter in gradients]
                accumulate(own, [gradients.pop(parameter) for parameter in own])
                add_found(found[task], list(gradients), list(gradients.values()))
            while done < len(layouts) and whole[done] >= index:
                matrix = rows.pop(done, None)
                if matrix is None:
                    matrix = torch.zeros(len(tasks), layouts[done].width, device=device)
                for parameter in layouts[done].parameters:
                    parts.pop(parameter, None)
                gram += products(self._reducer.sum(matrix))
                done += 1
                del matrix
        return gram, found

    def _agree(self, groups: list[list[int]], number: int, device: torch.device) -> list[list[int]]:
        """The groups of all ranks' parameters, in one order."""
        if not self._reducer.differs(zlib.crc32(repr(groups).encode()), device):
            return groups
        agreed, seen = [], set()
        for theirs in self._reducer.gather_objects(groups):
            for group in theirs:
                agreed.append([index for index in group if index not in seen])
                seen.update(group)
        return [group for group in agreed if group]

    def _measure(self, blocks: Sequence[Block], layouts: Sequence[SharedLayout], num_tasks: int) -> None:
        widest = max((layout.width for layout in layouts), default=0)
        live = max((sum(block.live) for block in blocks), default=0)
        self.num_blocks = len(layouts)
        self.held = (num_tasks + 1) * widest + num_tasks * live


def _groups(
    blocks: Sequence[Block], first_use: Mapping[nn.Parameter, int], shared: Sequence[nn.Parameter]
) -> list[list[int]]:
    """Indices of the shared parameters whose gradients are whole after each block, the last block first."""
    groups: list[list[int]] = [[] for _ in blocks]
    for index, parameter in enumerate(shared):
        if parameter in first_use:
            groups[first_use[parameter]].append(index)
    return [group for group in reversed(groups) if group]


def _through(
    block: Block, waiting: Mapping[str, dict[Edge, Tensor]], split: ParameterSplit
) -> Iterator[tuple[str, dict[nn.Parameter, Tensor]]]:
    """Take each task's waiting gradients from the block's end to its start; yields those of its parameters."""
    for task in reversed(waiting):
        arrived = {edge: gradient for edge, gradient in waiting[task].items() if edge[0] in block.nodes}
        if not arrived:
            continue
        for edge in arrived:
            del waiting[task][edge]
        trained = {*split.shared.parameters, *split.own(task), *split.others(task)}
        parameters = [parameter for parameter in block.parameters if parameter in trained]
        wanted = [*(GradientEdge(*edge) for edge in block.inputs), *parameters]
        if not wanted:
            continue
        with _closed(block.inputs):
            gradients = torch.autograd.grad(
                [GradientEdge(*edge) for edge in arrived],
                wanted,
                grad_outputs=list(arrived.values()),
                retain_graph=True,
                allow_unused=True,
            )
        del arrived
        add_found(waiting[task], block.inputs, gradients[: len(block.inputs)])
        yield (
            task,
            {p: g for p, g in zip(parameters, gradients[len(block.inputs) :]) if g is not None},
        )


@contextmanager
def _closed(edges: Sequence[Edge]) -> Iterator[None]:
    """Inside the context no gradient passes the nodes that made these tensors; it can still be taken there.

    Else what reaches one of them would go on to another from which it was computed, and be counted again there.
    """
    handles = [
        node.register_prehook(lambda gradients: (None,) * len(gradients)) for node in {node for node, _ in edges}
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
