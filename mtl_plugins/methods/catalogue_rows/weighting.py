"""Rows of the methods that weight losses."""

from __future__ import annotations

from fractions import Fraction

from mtl_plugins.methods.method_row import MethodRow, StepCost


def _one_pass(num_tasks: int, num_groups: int, probe_interval: int) -> StepCost:
    return StepCost(1, 1, 1)


def _one_pass_and_probe(num_tasks: int, num_groups: int, probe_interval: int) -> StepCost:
    return StepCost(1, 1, 1, Fraction(1))


def _row(
    key: str,
    part: str,
    title: str,
    paper: str,
    arxiv: str,
    verified: str,
    cost: str = '1 forward, 1 backward',
    probe: bool = False,
    accumulates_exactly: bool = True,
    one_task: str = '',
) -> MethodRow:
    return MethodRow(
        key=key,
        title=title,
        kind='loss weighting',
        wrapper='MultiTaskOptimWrapper',
        parts=(part,),
        paper=paper,
        arxiv=arxiv,
        cost=cost,
        cost_formula=_one_pass_and_probe if probe else _one_pass,
        accumulates_exactly=accumulates_exactly,
        verified=verified,
        one_task=one_task,
    )


_PARTIAL = '1 forward, 1 backward, and K partial backwards that end at the last shared layer'

ROWS = (
    _row(
        'gd',
        'EqualWeighting',
        'Gradient descent on the weighted sum',
        '',
        '',
        "step: bit-equal to MMEngine's OptimWrapper; two ranks: to the joint batch, relative error <= 1e-5",
    ),
    _row(
        'uw',
        'UncertaintyWeighting',
        'Uncertainty weighting',
        'Kendall, Gal and Cipolla, CVPR 2018',
        '1705.07115',
        'regression form: vectors of nash-mtl, TorchJD, LibMTL; classification form: its rest point only',
        one_task='its learned variance scales the one loss as it scales any other, and starts at one half',
    ),
    _row(
        'dwa',
        'DWA',
        'Dynamic weight average',
        'Liu, Johns and Davison, CVPR 2019',
        '1803.10704',
        'epochs: vectors of TorchJD, LibMTL; window: nash-mtl',
    ),
    _row(
        'dtp',
        'DTP',
        'Dynamic task prioritization',
        'Guo et al., ECCV 2018',
        '',
        'formula only; there is no official program. The key uses the proxy by losses',
    ),
    _row('rlw', 'RLW', 'Random loss weighting', 'Lin et al., TMLR 2022', '2111.10603', 'definition'),
    _row(
        'gls',
        'GLS',
        'Geometric loss strategy',
        'Chennupati et al., CVPR Workshops 2019',
        '1904.08492',
        'vectors of TorchJD, LibMTL; autograd',
    ),
    _row(
        'imtl_l',
        'IMTLL',
        'Impartial learning, the loss part',
        'Liu et al., ICLR 2021',
        '',
        'vectors of TorchJD',
        one_task='its learned factor scales the one loss as it scales any other',
    ),
    _row(
        'slaw',
        'SLAW',
        'Scaled loss approximate weighting',
        'Crawshaw and Kosecka',
        '2109.08218',
        "130 steps of the authors' program",
    ),
    _row(
        'famo',
        'FAMO',
        'Fast adaptive multitask optimization',
        'Liu et al., NeurIPS 2023',
        '2306.03792',
        "vectors of the authors' program, TorchJD, LibMTL",
        cost='1 forward, 1 backward, 1 forward without graph',
        probe=True,
    ),
    _row(
        'stch',
        'STCH',
        'Smooth Tchebycheff scalarisation',
        'Lin et al., ICML 2024',
        '2402.19078',
        'linear form: vectors of TorchJD; log form: autograd only',
        one_task='it minimises the logarithm of the loss, whose gradient is divided by the loss',
    ),
    _row(
        'bmtl',
        'BMTL',
        'Balanced multi-task learning',
        'Liang and Zhang, IEEE BigData 2021',
        '2002.04792',
        'derived vectors; that the paper means this exponential is unverified',
    ),
    _row(
        'gradnorm',
        'GradNorm',
        'Gradient normalisation',
        'Chen et al., ICML 2018',
        '1711.02257',
        'derivative by autograd; no vectors',
        cost=_PARTIAL,
        accumulates_exactly=False,
    ),
    _row(
        'emtl',
        'EMTL',
        'Equitable multi-task learning, our reading',
        'Yuan and Zhang',
        '2306.09373',
        'unverified: a reading of the abstract',
        cost=_PARTIAL,
        accumulates_exactly=False,
    ),
)
