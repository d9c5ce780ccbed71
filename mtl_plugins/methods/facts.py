"""What is known about a method."""

from dataclasses import dataclass

OBJECTIVES = {'proximal': 'TAG', 'tag': 'TAG', 'ptg': 'PTG', 'cosine': 'TAG'}
"""Kind of gain between tasks -> the objective that groups made from it are best by."""


@dataclass(frozen=True)
class MethodFacts:
    """What a method says about itself, as ``facts`` of its class.

    Args:
        title: Name in tables.
        paper: Authors and venue; empty if there is none.
        arxiv: Number on arXiv; empty if there is none.
        verified: What was compared with what.
        one_task: How a run with one task only differs from ordinary training (``gd``), and why; empty: it does not.
    """

    title: str
    paper: str = ''
    arxiv: str = ''
    verified: str = ''
    one_task: str = ''
