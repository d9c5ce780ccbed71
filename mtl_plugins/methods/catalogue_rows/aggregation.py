"""Rows of the methods that combine one gradient per task."""

from __future__ import annotations

from mtl_plugins.methods.method_row import MethodRow, StepCost


def _k_backwards(num_tasks: int, num_groups: int, probe_interval: int) -> StepCost:
    return StepCost(1, num_tasks, 1)


def _row(
    key: str,
    parts: str | tuple[str, ...],
    title: str,
    paper: str,
    arxiv: str,
    verified: str,
    one_task: str = '',
) -> MethodRow:
    return MethodRow(
        key=key,
        title=title,
        kind='gradient aggregation',
        wrapper='GradientAggregationOptimWrapper',
        parts=(parts,) if isinstance(parts, str) else parts,
        paper=paper,
        arxiv=arxiv,
        cost='1 forward, K backwards',
        cost_formula=_k_backwards,
        accumulates_exactly=True,
        verified=verified,
        one_task=one_task,
    )


ROWS = (
    _row(
        'mgda',
        'MGDA',
        'Multiple-gradient descent',
        'Sener and Koltun, NeurIPS 2018',
        '1810.04650',
        'exact solutions to 1e-8; vectors of TorchJD, LibMTL, nash-mtl, SamsungLabs where their solvers converged',
    ),
    _row(
        'pcgrad',
        'PCGrad',
        'Projecting conflicting gradients',
        'Yu et al., NeurIPS 2020',
        '2001.06782',
        'vectors of TorchJD, nash-mtl, SamsungLabs, LibMTL',
    ),
    _row(
        'gradvac',
        'GradVac',
        'Gradient vaccine',
        'Wang et al., ICLR 2021',
        '2010.05874',
        'vectors of TorchJD, LibMTL',
    ),
    _row(
        'graddrop',
        'GradDrop',
        'Gradient sign dropout',
        'Chen et al., NeurIPS 2020',
        '2010.06808',
        'probabilities of keeping; no vectors',
    ),
    _row(
        'cagrad',
        'CAGrad',
        'Conflict-averse gradient descent',
        'Liu et al., NeurIPS 2021',
        '2110.14048',
        'exact solutions to 1e-8; vectors of LibMTL, TorchJD, nash-mtl where their solvers converged',
    ),
    _row(
        'imtl_g',
        'IMTLG',
        'Impartial learning, the gradient part',
        'Liu et al., ICLR 2021',
        '',
        'vectors of TorchJD, nash-mtl, LibMTL',
    ),
    _row(
        'imtl',
        ('IMTLG', 'IMTLL'),
        'Impartial learning, both parts',
        'Liu et al., ICLR 2021',
        '',
        'its two parts; together no vectors',
        one_task='the factor learned by its loss part scales the one loss as it scales any other',
    ),
    _row(
        'nash_mtl',
        'NashMTL',
        'Nash bargaining',
        'Navon et al., ICML 2022',
        '2202.01017',
        'exact solutions to 1e-8; vectors of nash-mtl, TorchJD, LibMTL where their solvers converged',
    ),
    _row(
        'aligned_mtl',
        'AlignedMTL',
        'Independent component alignment',
        'Senushkin et al., CVPR 2023',
        '2305.19000',
        'vectors of TorchJD, SamsungLabs, LibMTL',
    ),
    _row(
        'fairgrad',
        'FairGrad',
        'Fair resource allocation',
        'Ban and Ji, ICML 2024',
        '2402.15638',
        'exact solutions to 1e-8; vectors of the official program, TorchJD, LibMTL',
    ),
    _row(
        'conicgrad',
        'ConicGrad',
        'Update in a cone about the mean, our derivation',
        'Hassanpour et al.',
        '2502.00217',
        'unverified: derived from the problem statement; optimality conditions',
    ),
    _row(
        'ngdiff',
        'NGDiff',
        'Differences of normalised gradients',
        'Bu et al., NAACL 2025',
        '2410.22086',
        'derived vectors; unverified for more than two tasks',
    ),
    _row(
        'upgrad',
        'UPGrad',
        'Mean of the projections on the dual cone',
        'Quinton and Rey',
        '2406.16232',
        'exact solutions to 1e-8; vectors of TorchJD, LibMTL',
    ),
    _row(
        'dualproj',
        'DualProj',
        'Projection of the mean on the dual cone',
        'Quinton and Rey',
        '2406.16232',
        'vectors of TorchJD',
    ),
    _row(
        'db_mtl',
        'DBMTL',
        'Dual balancing',
        'Lin et al.',
        '2308.12029',
        'vectors of LibMTL',
        one_task='its gradient is that of the logarithm of the loss, smoothed over time',
    ),
    _row(
        'excess_mtl',
        'ExcessMTL',
        'Weights from excess risks',
        'He et al., ICML 2024',
        '',
        'formula of LibMTL; no vectors',
    ),
    _row(
        'con_fig',
        'ConFIG',
        'Conflict-free inverse gradients',
        'Liu, Chu and Thuerey, ICLR 2025',
        '2408.11104',
        'vectors of TorchJD',
    ),
    _row(
        'moco',
        'MoCo',
        'Multi-objective gradient correction',
        'Fernando et al., ICLR 2023',
        '',
        'vectors of LibMTL',
        one_task='its buffer follows the gradient, made as long as the loss, with delay',
    ),
    _row(
        'sdmgrad',
        'SDMGrad',
        'Direction-oriented multi-objective descent, on one batch',
        'Xiao, Ban and Ji, NeurIPS 2023',
        '2305.18409',
        'formula; no vectors. The key has one batch stand for the three that the paper wants',
    ),
)
