"""Independent component alignment."""

from collections.abc import Sequence

import numpy as np

from mtl_plugins.methods.facts import MethodFacts

from .gramian import Products
from .preferences import PreferenceAggregator, Preferences

_ROUNDING = float(np.finfo(np.float32).eps)


class AlignedMTL(PreferenceAggregator):
    """Makes the system of gradients orthogonal with equal lengths, then takes their mean.

    With the eigenvalues l and eigenvectors V of the Gramian, B = sqrt(s) V l^(-1/2) V^T and u = G^T B p, where p = 1/K
    or the preferences, and s is the least, the median or the mean of the kept eigenvalues.

    Paper: Senushkin, Patakin, Kuznetsov, Konushin, Independent Component Alignment for Multi-Task Learning, CVPR 2023,
    arXiv 2305.19000. Scale ``'mean'`` (LibMTL and SamsungLabs/MTL take p = 1, which is K times as much); heads
    ``'sum'``.

    Where we differ from public code: the eigenvalues that count as zero are those up to K times the rounding of
    float32 (that of public code in ordinary training), relative to the largest, whatever dtype torch has by default;
    LibMTL and SamsungLabs/MTL call a function that
    torch 2 no longer has. The median of an even number is the lower one, as there. With ``'min'`` a single short or
    nearly dependent row makes the update tiny; that is the method. There is no fall-back.

    Args:
        scale_mode: ``'min'``, ``'median'`` or ``'rmse'`` (the mean).
        pref_vector: As for :class:`PreferenceAggregator`.
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Independent component alignment',
        paper='Senushkin et al., CVPR 2023',
        arxiv='2305.19000',
        verified='vectors of TorchJD, SamsungLabs, LibMTL',
    )
    scale = 'mean'
    features_level = True

    def __init__(
        self, scale_mode: str = 'min', pref_vector: Preferences = None, tasks: Sequence[str] | int | None = None
    ) -> None:
        if scale_mode not in ('min', 'median', 'rmse'):
            raise ValueError(f"AlignedMTL: scale_mode must be 'min', 'median' or 'rmse', but got {scale_mode!r}")
        super().__init__(pref_vector, tasks)
        self.scale_mode = scale_mode

    def _weights(self, rows: Products) -> np.ndarray:
        largest = rows.norms.max()
        values, vectors = np.linalg.eigh(rows.gram / largest / largest)
        kept = values > len(rows) * _ROUNDING * values[-1]
        values, vectors = values[kept], vectors[:, kept]
        pivot = {'min': values[0], 'median': values[(len(values) - 1) // 2], 'rmse': values.mean()}[self.scale_mode]
        return vectors @ (np.sqrt(pivot / values) * (self.preferences(rows, 1 / len(rows)) @ vectors))
