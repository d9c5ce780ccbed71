"""Multi-task learning as a bargaining game."""

from collections.abc import Sequence

from mtl_plugins.methods.facts import MethodFacts

from .fairgrad import FairGrad


class NashMTL(FairGrad):
    """The bargaining solution of Nash: (G G^T) a = 1 / a, a > 0, u = G^T a, hence |u|^2 = K.

    Paper: Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya, Multi-Task Learning as a Bargaining Game, ICML
    2022, arXiv 2202.01017. Scale ``'raw'``: the length of the update does not depend on the rows. Heads
    ``'weighted'``, as in the paper's code, which makes one backward pass of sum_k a_k L_k.

    Where we differ from public code: Newton's method on the convex potential of the equation, to 1e-10 and from the
    same start every time, so that there is no state. The official code, LibMTL and TorchJD linearise the problem at
    most 20 times from the previous weights, stop by a test that mixes scales, and keep the previous weights without a
    word when their solver fails. They clip the update to ``max_norm=1``; here it is off by default. Solving only every
    few batches is the business of the training step.

    Fall-back, counted: as for :class:`FairGrad`.

    Args:
        max_norm: Largest length of the update; None for no limit.
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Nash bargaining',
        paper='Navon et al., ICML 2022',
        arxiv='2202.01017',
        verified='exact solutions to 1e-8; vectors of nash-mtl, TorchJD, LibMTL where their solvers converged',
    )
    heads = 'weighted'

    def __init__(self, max_norm: float | None = None, tasks: Sequence[str] | int | None = None) -> None:
        super().__init__(alpha=1.0, max_norm=max_norm, tasks=tasks)
