"""Shows which task dominates which layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import Tensor

from mtl_plugins.registry import HOOKS
from mtl_plugins.runtime.hooks.outputs import append_line, going_on_without
from mtl_plugins.utils.argument_types import Checked, Count, Range

from ..optim_wrappers import AdaTaskOptimWrapper


@HOOKS.register_module()
class DominanceHook(Checked, Hook):
    r"""Tracks AdaTask's measure of dominance; does nothing for other methods.

    Per shared parameter, :math:`\mathrm{AU}_k \leftarrow \rho\,\mathrm{AU}_k + (1 - \rho)\,\|u_k\|^2` is the average of
    the squared updates :math:`u_k` that task k made (Yang et al., AAAI 2023, arXiv 2211.15055), summed over the
    parameters of a layer; :math:`\mathrm{rAU}_k = \mathrm{AU}_k / \sum_j \mathrm{AU}_j` is far from 1 / K where a task
    dominates or is dominated. The decay :math:`\rho` is ours, the paper's could not be established. A task's average
    stays as it is while the task is absent. After a resume the averages start anew.

    Writes ``<work_dir>/<timestamp>/dominance.jsonl``, one line per entry with AU and rAU per layer, and draws
    ``<work_dir>/dominance.png``, one bar per layer, at every validation and at the end.

    Args:
        interval: Iterations between two entries of the log.
        decay: :math:`\rho`, in [0, 1).
        depth: Parts of a parameter's name that make a layer, for example 3 for ``backbone.blocks.0``; None for all but
            the last, which is one layer per module.

    Raises:
        ValueError: If an argument is out of range.
    """

    # After the optimizer step of the iteration, before checkpoints.
    priority = 'NORMAL'

    def __init__(
        self,
        interval: Count = 50,
        decay: Annotated[float, Range(0, 1, below=True)] = 0.99,
        depth: Count | None = None,
    ) -> None:
        self.interval = interval
        self.decay = decay
        self.depth = depth
        self._averages: dict[str, Tensor] = {}
        self._names: dict[int, str] | None = None
        self._log: Path | None = None

    def before_train(self, runner: Any) -> None:
        """Ask the optimizer for its updates."""
        wrapper = runner.optim_wrapper
        # All ranks make the same updates, so one of them writes.
        strategies = getattr(wrapper, 'strategies', ())
        if not is_main_process() or not any(isinstance(each, AdaTaskOptimWrapper) for each in strategies):
            return
        model = getattr(runner.model, 'module', runner.model)
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        wrapper.optimizer.record_updates = True
        self._log = Path(runner.log_dir) / 'dominance.jsonl'
        with going_on_without(runner, self._log):
            self._log.parent.mkdir(parents=True, exist_ok=True)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Average, and write an entry if it is due."""
        if self._names is None:
            return
        wrapper = runner.optim_wrapper
        for parameter, (ids, squares) in wrapper.optimizer.update_squares.items():
            name = self._names[id(parameter)]
            if name not in self._averages:
                self._averages[name] = torch.zeros(len(wrapper.task_names), dtype=torch.float64, device=squares.device)
            average = self._averages[name]
            average[ids] = self.decay * average[ids] + (1 - self.decay) * squares.double()
        wrapper.optimizer.update_squares = {}
        if self._averages and self.every_n_train_iters(runner, self.interval):
            layers = self.layers()
            shares = {name: _shares(values) for name, values in layers.items()}
            entry = dict(iter=runner.iter + 1, tasks=list(wrapper.task_names), AU=layers, rAU=shares)
            append_line(runner, self._log, json.dumps(entry))

    def layers(self) -> dict[str, list[float]]:
        """AU of every task, by layer."""
        summed: dict[str, Tensor] = {}
        for name, average in self._averages.items():
            parts = name.split('.')
            layer = '.'.join(parts[: self.depth] if self.depth is not None else parts[:-1] or parts)
            summed[layer] = summed[layer] + average if layer in summed else average
        return {layer: values.tolist() for layer, values in summed.items()}

    def before_val(self, runner: Any) -> None:
        """Redraw the picture."""
        self._draw(runner)

    def after_train(self, runner: Any) -> None:
        """Redraw the picture and say where it is."""
        if self._draw(runner):
            runner.logger.info(f'dominance of the tasks per layer: {runner.work_dir}/dominance.png')

    def _draw(self, runner: Any) -> bool:
        if not self._averages:
            return False
        from mtl_plugins.visualization import draw_dominance

        shares = {name: _shares(values) for name, values in self.layers().items()}
        path = Path(runner.work_dir) / 'dominance.png'
        with going_on_without(runner, path):
            draw_dominance(shares, runner.optim_wrapper.task_names, path=path)
        return True


def _shares(values: list[float]) -> list[float]:
    total = sum(values)
    return [value / total for value in values] if total > 0 else [1 / len(values)] * len(values)
