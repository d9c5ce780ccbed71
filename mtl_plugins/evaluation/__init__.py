"""Evaluation: one metric per kind of dense task, delta_m against single-task baselines, and the result table."""

from .baselines import load_baselines, make_baselines, save_baselines, validate_baselines
from .delta_m import delta_m, relative_changes
from .edges import count_exact_matches, count_matches, match_edges, thinned
from .evaluator import MultiTaskEvaluator
from .metrics import (
    DenseMetric,
    DepthErrorMetric,
    EdgeMetric,
    NormalsMetric,
    PerImageSaliencyMetric,
    RegressionMetric,
    SaliencyMetric,
    SegmentationMetric,
)
from .result_table import ResultRow, build_table, render_text

__all__ = [
    'DenseMetric',
    'DepthErrorMetric',
    'EdgeMetric',
    'MultiTaskEvaluator',
    'NormalsMetric',
    'PerImageSaliencyMetric',
    'RegressionMetric',
    'ResultRow',
    'SaliencyMetric',
    'SegmentationMetric',
    'build_table',
    'count_exact_matches',
    'count_matches',
    'delta_m',
    'load_baselines',
    'make_baselines',
    'match_edges',
    'relative_changes',
    'render_text',
    'save_baselines',
    'thinned',
    'validate_baselines',
]
