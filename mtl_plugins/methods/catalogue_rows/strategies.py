"""Rows of the methods with a step strategy of their own."""

from __future__ import annotations

from fractions import Fraction

from mtl_plugins.methods.method_row import MethodRow, StepCost


def _f_mtl(num_tasks: int, num_groups: int, probe_interval: int) -> StepCost:
    return StepCost(1 + num_tasks, 2 * num_tasks, 1)


def _samo(num_tasks: int, num_groups: int, probe_interval: int) -> StepCost:
    return StepCost(1 + num_tasks, 1 + num_tasks, 1, Fraction(2 * num_tasks))


def _ada_task(num_tasks: int, num_groups: int, probe_interval: int) -> StepCost:
    return StepCost(1, num_tasks, 1)


def _stgu(num_tasks: int, num_groups: int, probe_interval: int) -> StepCost:
    probes = Fraction(1, probe_interval) if probe_interval else Fraction(0)
    return StepCost(num_groups, num_groups, num_groups, probes)


def _stgu_released(num_tasks: int, num_groups: int, probe_interval: int) -> StepCost:
    passes = max(num_groups, 2)
    return StepCost(passes, passes, passes)


_STGU_PAPER = 'Jeong and Yoon, Selective Task Group Updates for Multi-Task Optimization, ICLR 2025'

OTHERS = (
    MethodRow(
        key='f_mtl',
        title='Flat minima per task, on PCGrad',
        kind='sharpness-aware',
        wrapper='SharpnessAwareOptimWrapper',
        parts=('PCGrad',),
        paper='Phan et al., ICCV 2025',
        arxiv='2211.13723',
        cost='1 + K forwards, 2 K backwards',
        cost_formula=_f_mtl,
        accumulates_exactly=True,
        verified='step: to a loop written out in the tests; sum of the two parts: vectors of the official program',
        one_task='it steps with the gradient at a worse point nearby, as sharpness-aware training of one task does',
    ),
    MethodRow(
        key='samo',
        title='Lightweight sharpness-aware optimization, on CAGrad',
        kind='sharpness-aware',
        wrapper='SAMOOptimWrapper',
        parts=('CAGrad',),
        paper='Ban et al., ICCV 2025',
        arxiv='2507.07883',
        cost='1 + K forwards, 1 + K backwards, 2 K forwards without graph',
        cost_formula=_samo,
        accumulates_exactly=True,
        verified='formula; no vectors',
        one_task='it steps with the gradient at a worse point nearby, as sharpness-aware training of one task does',
    ),
    MethodRow(
        key='ada_task',
        title='Adaptive optimizer with accumulators per task',
        kind='optimizer',
        wrapper='AdaTaskOptimWrapper',
        parts=(),
        paper='Yang et al., AAAI 2023',
        arxiv='2211.15055',
        cost='1 forward, K backwards',
        cost_formula=_ada_task,
        accumulates_exactly=True,
        verified="Adam: 5 steps of the authors' program; each base with one task: torch's optimizer",
    ),
)

GROUPS = (
    MethodRow(
        key='stgu',
        title='Selective task group updates',
        kind='task groups',
        wrapper='SelectiveTaskGroupOptimWrapper',
        parts=('ProximalAffinity', 'AffinityPropagation'),
        paper=_STGU_PAPER,
        arxiv='2502.11986',
        cost='M forwards, M backwards; 1 forward without graph every probe_interval batches',
        cost_formula=_stgu,
        accumulates_exactly=True,
        verified='step with fixed groups: bit-equal to a loop written out in the tests; affinity: to its rule written '
        'out; where it differs from the released program on purpose: docs/stgu.md',
    ),
    MethodRow(
        key='stgu_released',
        title="Selective task group updates, the authors' released program",
        kind='task groups',
        wrapper='ReleasedTaskGroupOptimWrapper',
        parts=('ReleasedAffinity', 'Released'),
        paper=_STGU_PAPER,
        arxiv='2502.11986',
        cost='M forwards, M backwards; 2 of each where M = 1',
        cost_formula=_stgu_released,
        accumulates_exactly=True,
        verified='affinity map: bit-equal to traces of the released program after every update',
        one_task='the released program steps a single group twice per batch',
    ),
)
