"""Projections on the dual cone."""

import numpy as np

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.solvers import cone_projections, dual_cone_weights, root

from .gramian import Products
from .preferences import PreferenceAggregator


class UPGrad(PreferenceAggregator):
    """The mean of the gradients, each projected on the updates that conflict with none: u = 1/K sum_k P(g_k).

    P projects on {u: u . g_j >= 0 for all j}. With preferences p, u = sum_k p_k P(g_k).

    Paper: Quinton, Rey, Jacobian Descent for Multi-Objective Optimization, arXiv 2406.16232. Scale ``'mean'``; heads
    ``'sum'``.

    Where we differ from public code: exact, by an active set on unit rows; TorchJD and LibMTL add 1e-4 to the diagonal
    of the normalised Gramian, with which the update may conflict with tasks of short gradients. There is no fall-back.

    Args:
        pref_vector: As for :class:`PreferenceAggregator`.
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Mean of the projections on the dual cone',
        paper='Quinton and Rey',
        arxiv='2406.16232',
        verified='exact solutions to 1e-8; vectors of TorchJD, LibMTL',
    )
    scale = 'mean'
    non_conflicting = True

    def _weights(self, rows: Products) -> np.ndarray:
        parts = np.eye(len(rows)) + cone_projections(rows.unit)
        return self.preferences(rows, 1 / len(rows)) * rows.norms @ parts / rows.norms


class DualProj(PreferenceAggregator):
    """The mean gradient projected on the updates that conflict with none, {u: u . g_k >= 0 for all k}.

    With preferences p, what is projected is sum_k p_k g_k.

    Papers: Lopez-Paz, Ranzato, Gradient Episodic Memory for Continual Learning, NeurIPS 2017, arXiv 1706.08840, for the
    projection; named and compared in Quinton, Rey, arXiv 2406.16232. Scale ``'mean'``; heads ``'sum'``.

    Where we differ from public code: exact, see :class:`UPGrad`. There is no fall-back.

    Args:
        pref_vector: As for :class:`PreferenceAggregator`.
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Projection of the mean on the dual cone',
        paper='Quinton and Rey',
        arxiv='2406.16232',
        verified='vectors of TorchJD',
    )
    scale = 'mean'
    non_conflicting = True

    def _weights(self, rows: Products) -> np.ndarray:
        target = self.preferences(rows, 1 / len(rows)) * rows.norms
        length = target.max()
        if not length > 0:
            return target
        target = target / length
        return (target + dual_cone_weights(root(rows.unit), target)) * length / rows.norms
