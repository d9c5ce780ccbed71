"""Low-rank additions to the linear layers of a transformer: some for all tasks, some for one task each."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl_plugins.errors import UserError

from .token_maps import as_map, pooled_norm, token_maps


class LowRank(nn.Module):
    """``x`` to ``scale * up(down(x))``; ``up`` begins with zeros, so that nothing changes at first.

    Args:
        layer: The linear layer that it adds to.
        rank: Width between the two matrices.
        scale: Factor on the result.
    """

    def __init__(self, layer: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, layer.in_features))
        self.up = nn.Parameter(torch.empty(layer.out_features, rank))
        self.scale = scale
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights, which change nothing."""
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        nn.init.zeros_(self.up)

    def forward(self, x: Tensor) -> Tensor:
        """From ``(..., in)`` to ``(..., out)``."""
        return F.linear(F.linear(x, self.down), self.up) * self.scale


class Turn:
    """Whose adapters are on: those of all tasks, and of ``task`` if there is one."""

    task: str | None = None


class AdaptedLinear(nn.Linear):
    """A linear layer, its weights under their own names, and what is added to it.

    Args:
        layer: The layer to take over.
        turn: Whose adapters are on.
        shared: The addition of all tasks.
        tasks: The additions of single tasks.
    """

    def __init__(self, layer: nn.Linear, turn: Turn, shared: LowRank | None, tasks: dict[str, LowRank]) -> None:
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device='meta')
        self.weight, self.bias = layer.weight, layer.bias
        self.turn = turn
        self.shared_adapter = shared
        self.task_adapters = nn.ModuleDict(tasks)

    def forward(self, x: Tensor) -> Tensor:
        """From ``(..., in)`` to ``(..., out)``."""
        out = super().forward(x)
        if self.shared_adapter is not None:
            out = out + self.shared_adapter(x)
        if self.turn.task in self.task_adapters:
            out = out + self.task_adapters[self.turn.task](x)
        return out


class Adapters:
    """The adapters of a transformer, as in MTLoRA (Agiza, Neseem and Reda, CVPR 2024).

    Every linear layer of the blocks gets a low-rank addition for all tasks. The blocks whose maps are returned get one
    per task besides: such a block runs once for all tasks, and its output goes into the next block; and once for each
    task with the task's own addition, and that output is the task's map.

    Args:
        blocks: Blocks of the transformer; their linear layers are replaced.
        out_indices: Blocks whose maps are returned.
        rank: Rank of the additions for all tasks, 0 for none.
        task_rank: Rank of those for single tasks, 0 for none.
        tasks: Keys of the tasks. Filled in by the segmentor.
        scale: Factor on the additions.
        layers: Names of the linear layers in a block that get them; None for all.

    Raises:
        ValueError: If both ranks are 0, a rank is negative, or a block has no layer of such a name.
    """

    def __init__(
        self,
        blocks: nn.ModuleList,
        out_indices: Sequence[int],
        rank: int = 4,
        task_rank: int = 0,
        tasks: Sequence[str] = (),
        scale: float = 4.0,
        layers: Sequence[str] | None = None,
    ) -> None:
        if min(rank, task_rank) < 0 or rank + task_rank == 0:
            raise UserError(
                f'adapters: rank and task_rank must be 0 or more, and not both 0, but got {rank} and {task_rank}'
            )
        if task_rank and not tasks:
            raise UserError('adapters: task_rank needs tasks, which a MultiTaskSegmentor fills in; or set task_rank=0')
        self.tasks = tuple(tasks) if task_rank else ()
        self.active: frozenset[str] | None = None
        self.turn = Turn()
        for index, block in enumerate(blocks):
            own = self.tasks if index in out_indices else ()
            found = {
                name: layer
                for name, layer in block.named_modules()
                if isinstance(layer, nn.Linear) and (layers is None or name in layers)
            }
            if not found:
                names = [name for name, layer in block.named_modules() if isinstance(layer, nn.Linear)]
                raise UserError(f'adapters: layers={layers} names no linear layer of a block, which has {names}')
            for name, layer in found.items() if rank or own else ():
                parent, _, last = name.rpartition('.')
                adapted = AdaptedLinear(
                    layer,
                    self.turn,
                    LowRank(layer, rank, scale) if rank else None,
                    {task: LowRank(layer, task_rank, scale) for task in own},
                )
                holder = block.get_submodule(parent)
                setattr(holder, last, adapted)
                if getattr(holder, 'q_bias', None) is not None:
                    holder.qkv_bias_separate = True  # else the attention reads the weights past the layer

    def task_maps(
        self, vit: nn.Module, x: Tensor, out_indices: Sequence[int]
    ) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
        """The maps of every task; those of tasks that are not active come without a graph.

        Args:
            vit: The transformer.
            x: Images ``(N, 3, H, W)``.
            out_indices: Blocks whose maps are returned.
        """
        with _inputs_of([vit.blocks[index] for index in out_indices]) as inputs:
            token_maps(vit, x, out_indices)
        for task in self.tasks:
            graph = torch.is_grad_enabled() and (self.active is None or task in self.active)
            with torch.set_grad_enabled(graph), self._turn_of(task):
                *lower, last = [vit.blocks[i](*args, **kwargs) for i, (args, kwargs) in zip(out_indices, inputs)]
            with torch.set_grad_enabled(graph):
                tokens = [*lower, pooled_norm(vit, vit.norm(last))]
                maps = tuple(as_map(vit, each, x.shape[-2:]) for each in tokens)
            yield task, maps

    @contextmanager
    def _turn_of(self, task: str) -> Iterator[None]:
        self.turn.task = task
        try:
            yield
        finally:
            self.turn.task = None


@contextmanager
def _inputs_of(modules: Sequence[nn.Module]) -> Iterator[list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """Inside, what ``modules`` are called with is written into the list, in order of the calls."""
    inputs: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    with ExitStack() as hooks:
        for module in modules:
            handle = module.register_forward_pre_hook(
                lambda module, args, kwargs: inputs.append((args, kwargs)), with_kwargs=True
            )
            hooks.callback(handle.remove)
        yield inputs


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return '.shared_adapter.' in name or '.task_adapters.' in name
