"""Where the graph of the losses can be cut, so that gradients go back through it block by block."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import inf, prod

from torch import Tensor, nn
from torch.autograd.graph import Node

from mtl_plugins.errors import UserRuntimeError

Edge = tuple[Node, int]
"""A tensor of the forward: the node that made it, and which of its outputs it is."""

_LAYER = 2  # weight and bias: a run that trains no more than one layer has nothing to cut


@dataclass(frozen=True)
class Block:
    """A stretch of the graph.

    Args:
        nodes: Its nodes.
        inputs: Tensors that come from blocks before it.
        parameters: Those that its nodes use.
        live: Numbers of all tensors that cross its start and its end.
    """

    nodes: frozenset[Node]
    inputs: list[Edge]
    parameters: list[nn.Parameter]
    live: tuple[int, int]


class BlockPlanner:
    """Cuts graphs into blocks; what it found for one graph serves all that look the same.

    A cut is made where the fewest numbers cross it, between two nodes that use shared parameters. Of all such cuts
    those are kept with which the largest block, its parameters and the tensors at its two ends, is smallest.
    """

    def __init__(self) -> None:
        self._kept: dict[object, list[int]] = {}

    def blocks(self, losses: Iterable[Tensor], shared: Collection[nn.Parameter]) -> list[Block]:
        """The blocks in the order of the forward; the last one ends with the losses.

        Args:
            losses: Scalars with a graph.
            shared: Parameters whose gradients have to be held for all tasks at once.

        Raises:
            UserRuntimeError: If one node uses all shared parameters, and they are more than those of a layer.
        """
        order = _in_order([loss.grad_fn for loss in losses])
        position = {node: index for index, node in enumerate(order)}
        uses: list[list[nn.Parameter]] = [[] for _ in order]
        edges: list[list[Edge]] = [[] for _ in order]
        last: dict[Edge, int] = {}
        for index, node in enumerate(order):
            for parent, output in node.next_functions:
                if parent in position:
                    edges[index].append((parent, output))
                    last[parent, output] = index
                elif hasattr(parent, 'variable'):
                    uses[index].append(parent.variable)
        shares = set(map(id, shared))
        used = {node: shares.intersection(map(id, parameters)) for node, parameters in zip(order, uses)}
        users = [node for node, parameters in used.items() if parameters]
        if len(users) == 1 and len(used[users[0]]) > _LAYER:
            raise UserRuntimeError(
                "memory='gramian': the model cannot be cut into blocks, because a single node of its graph, "
                f'{users[0].name()}, uses all its shared parameters. If the model is compiled as a whole, compile its '
                "blocks one by one; else use memory='rows'"
            )
        cuts, live = self._choose(_crossing(position, last), uses, shares)
        result = []
        for (start, stop), at_ends in zip(pairwise([-1, *cuts, len(order) - 1]), pairwise([0, *live, 0])):
            inside = range(start + 1, stop + 1)
            inputs = dict.fromkeys(e for i in inside for e in edges[i] if position[e[0]] <= start)
            parameters = {id(p): p for i in inside for p in uses[i]}
            nodes = frozenset(order[i] for i in inside)
            result.append(Block(nodes, list(inputs), list(parameters.values()), at_ends))
        return result

    def _choose(
        self, crossing: Sequence[int], uses: Sequence[Sequence[nn.Parameter]], shared: set[int]
    ) -> tuple[list[int], list[int]]:
        """Positions of the nodes behind which to cut, and how many numbers cross there."""
        places: list[int] = []
        sizes: list[int] = []
        seen: set[int] = set()
        for index, parameters in enumerate(uses):
            here = {id(p): p.numel() for p in parameters if id(p) in shared}
            if here:
                places.append(index)
                # A gradient is whole once the first use of its parameter has been passed.
                sizes.append(sum(size for key, size in here.items() if key not in seen))
                seen.update(here)
        candidates = [min(range(a, b), key=crossing.__getitem__) for a, b in pairwise(places)]
        ends = [0, *(crossing[place] for place in candidates), 0]
        key = (tuple(sizes), tuple(ends))
        if key not in self._kept:
            self._kept[key] = _smallest_largest(sizes, ends)
        kept = self._kept[key]
        return [candidates[index - 1] for index in kept], [ends[index] for index in kept]


def _in_order(roots: Iterable[Node | None]) -> list[Node]:
    """Every node behind ``roots`` but the leaves, each after those that it depends on."""
    waiting, order = [root for root in roots if root is not None][::-1], {}
    while waiting:
        node = waiting[-1]
        if node in order:
            waiting.pop()
            continue
        parents = [parent for parent, _ in node.next_functions if parent is not None and parent not in order]
        parents = [parent for parent in parents if not hasattr(parent, 'variable')]
        waiting.extend(reversed(parents))
        if not parents:
            order[waiting.pop()] = None
    return list(order)


def _crossing(position: dict[Node, int], last: dict[Edge, int]) -> list[int]:
    """How many numbers a cut behind each node crosses."""
    steps = [0] * (len(position) + 1)
    for (node, output), end in last.items():
        size = prod(node._input_metadata[output].shape)
        steps[position[node]] += size
        steps[end] -= size
    total = 0
    return [total := total + step for step in steps]


def _smallest_largest(sizes: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Which of the places between pieces to cut at, so that the largest block is smallest; of equals, the fewest.

    Args:
        sizes: Of n pieces in a row.
        ends: Of what has to be held at each of the n + 1 places before, between and behind them.
    """
    before, stops = [0, *accumulate(sizes)], range(1, len(sizes) + 1)

    def held(start: int, stop: int) -> int:
        return before[stop] - before[start] + ends[start] + ends[stop]

    least = [0]  # of the first pieces: how large the largest block has to be
    for stop in stops:
        least.append(min(max(least[start], held(start, stop)) for start in range(stop)))
    fewest: list[tuple[float, int]] = [(0, 0)]  # of the first pieces: blocks that are no larger, and the last cut
    for stop in stops:
        ways = [(fewest[start][0] + 1, start) for start in range(stop) if held(start, stop) <= least[-1]]
        fewest.append(min(ways, default=(inf, 0)))
    cuts, place = [], len(sizes)
    while (place := fewest[place][1]) > 0:
        cuts.append(place)
    return cuts[::-1]
