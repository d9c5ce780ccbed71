"""STGU as the authors' released program runs it, for side-by-side comparisons."""

import logging
from dataclasses import replace
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn
from torch.optim import Optimizer

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.registry import OPTIM_WRAPPERS

from ..step_cost import StepCost, StepSetup
from .selective import SelectiveTaskGroupOptimWrapper


@OPTIM_WRAPPERS.register_module()
class ReleasedTaskGroupOptimWrapper(SelectiveTaskGroupOptimWrapper):
    """The released program's step (wooseong97/sel-update-mtl at 53a8ba2), differences to ours included.

    Its affinity credits the group that steps next, its similarity is half normalised, a single group is stepped twice,
    every forward draws new noise and moves the BatchNorm statistics, and gradients are cleared to zero instead of None,
    so that heads outside the group go on moving by Adam's momentum and weight decay (torch 1.13's default). 101 batches
    of single tasks come first, and then the groups are made anew for every batch.

    Not reproduced: per-rank decisions (ours are made once and broadcast), and the head learning rate times K of its
    NYUD and PASCAL configs, which ``paramwise_cfg`` states openly.

    Args:
        optimizer: The optimizer that is stepped.
        **kwargs: Any argument of :class:`SelectiveTaskGroupOptimWrapper`, to change one thing at a time.
    """

    facts = MethodFacts(
        "Selective task group updates, the authors' released program",
        paper='Jeong and Yoon, Selective Task Group Updates for Multi-Task Optimization, ICLR 2025',
        arxiv='2502.11986',
        verified='affinity map: bit-equal to traces of the released program after every update',
        one_task='the released program steps a single group twice per batch',
    )
    method_name = 'stgu_released'

    own_defaults = dict(
        affinity=dict(type='ReleasedAffinity'),
        grouper=dict(type='Released'),
        warmup_iters=101,
        regroup_interval=1,
        probe_interval=0,
        same_noise=False,
        bn_stats='every',
    )

    def __init__(self, optimizer: Optimizer, **kwargs: Any) -> None:
        super().__init__(optimizer, **{**self.own_defaults, **kwargs})

    @classmethod
    def cost(cls, setup: StepSetup) -> StepCost:
        """As the base without probes; a single group is stepped twice."""
        return super().cost(replace(setup, num_groups=max(setup.num_groups, 2), probe_interval=0))

    def zero_grad(self, **kwargs: Any) -> None:
        """Clear gradients to zero: once a head has had one, the optimizer steps it every time."""
        super().zero_grad(**{'set_to_none': False, **kwargs})
        for group in self.optimizer.param_groups:
            for parameter in group['params']:
                if not parameter.requires_grad:  # what is frozen stands still
                    parameter.grad = None

    def strategy_state(self) -> dict[str, Any]:
        """As the base, and which parameters have had a gradient: the optimizer steps them every time."""
        return dict(**super().strategy_state(), stepped=[p.grad is not None for p in self._parameters()])

    def load_strategy_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`strategy_state`."""
        super().load_strategy_state(state)
        if 'stepped' not in state:
            print_log(
                'the checkpoint was written by a version that did not keep which parameters have had a gradient: heads '
                'stand still until their group steps, where the uninterrupted run would have moved them by momentum',
                logger='current',
                level=logging.WARNING,
            )
            return
        for parameter, stepped in zip(self._parameters(), state['stepped']):
            parameter.grad = torch.zeros_like(parameter) if stepped else None

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group['params']]

    def _rounds(self, order: list[list[int]]) -> list[list[int]]:
        return order * 2 if len(self.groups) == 1 else order

    def _needs_probe(self) -> bool:
        return False
