"""Other libraries with multi-task methods, as far as they are installed (the extra ``benchmarks``)."""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType, SimpleNamespace

from torch import Tensor


class PeerMissingError(RuntimeError):
    """Raised when a library is not installed, or cannot be imported here; the message says which and why."""


def load_torchjd() -> SimpleNamespace:
    """TorchJD's engine and the methods that are compared.

    Raises:
        PeerMissingError: If TorchJD or the solver of its UPGrad is not there.
    """
    try:
        autojac, linalg = import_module('torchjd.autojac'), import_module('torchjd.linalg')
        autogram = import_module('torchjd.autogram')
        aggregation, scalarization = import_module('torchjd.aggregation'), import_module('torchjd.scalarization')
        # With its default, 1e-4 more on the diagonal of the normalised products, the update is another one.
        projector = linalg.QuadprogProjector(norm_eps=0.0, reg_eps=0.0)
    except ImportError as error:
        raise PeerMissingError(f'TorchJD left out: {error}') from error

    class PreciseUPGrad(aggregation.UPGrad):
        """With products of the rows in float64, as ours are, to tell another update from another rounding."""

        def forward(self, matrix: Tensor, /) -> Tensor:
            return super().forward(matrix.double()).to(matrix)

    return SimpleNamespace(
        version=version('torchjd'),
        mtl_backward=autojac.mtl_backward,
        jac_to_grad=autojac.jac_to_grad,
        engine=autogram.Engine,
        upgrad=lambda precise=False: (PreciseUPGrad if precise else aggregation.UPGrad)(projector=projector),
        famo=scalarization.FAMO,
    )


def load_libmtl() -> SimpleNamespace:
    """LibMTL's weightings (which are whole steps), loaded without the initialiser of the package.

    The release on the package index imports ``torchvision.models.utils`` there, which torchvision has dropped. The
    weightings do not need it.

    Raises:
        PeerMissingError: If LibMTL is not there, or its weightings cannot be imported.
    """
    if 'LibMTL' not in sys.modules:
        spec = importlib.util.find_spec('LibMTL')
        if spec is None:
            raise PeerMissingError("LibMTL left out: No module named 'LibMTL'")
        package = ModuleType('LibMTL')
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules['LibMTL'] = package
    try:
        weighting = import_module('LibMTL.weighting')
    except (ImportError, SyntaxError) as error:
        raise PeerMissingError(f'LibMTL left out: {error}') from error
    return SimpleNamespace(version=version('LibMTL'), weighting=weighting)
