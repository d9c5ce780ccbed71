"""Whether each step of the comparison makes the update that our engine makes; else its cost says nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.optim import SGD

from .equality import TOLERANCE, UnequalUpdatesError
from .method_systems import (
    MethodSystem,
    build_hand,
    build_libmtl,
    build_ours,
    build_torchjd,
    flat_gradient,
    torchjd_upgrads,
)
from .workload import Workload

LR = 1e-3
# The first step of these does not show what they have learned.
STATEFUL = ('torchjd famo', 'libmtl uw')
Build = Callable[..., MethodSystem]


def pairs(
    work: Workload, torchjd: SimpleNamespace | None, libmtl: SimpleNamespace | None
) -> dict[str, tuple[Build, Build]]:
    """For every system that is not ours, how to build it and ours that must make the same update."""
    uw = dict(type='UncertaintyWeighting', initial=-0.5, lr=LR, optimizer='sgd')
    # The methods' order of the projections is random, each library's in its own way; here all go by number.
    pcgrad = dict(type='PCGrad', order='ascending')
    found = {
        'by hand, K rows': (partial(build_hand, False), partial(build_ours, 'mean')),
        'by hand, features': (partial(build_hand, True), partial(build_ours, 'mgda features')),
    }
    if torchjd is not None:
        for method in (*torchjd_upgrads(work), 'famo'):
            found[f'torchjd {method}'] = (
                partial(build_torchjd, method, torchjd, precise=True), partial(build_ours, method.split()[0])
            )  # fmt: skip
    if libmtl is not None:
        found['libmtl pcgrad'] = (
            partial(build_libmtl, 'PCGrad', libmtl, precise=True), partial(build_ours, 'pcgrad', aggregator=pcgrad)
        )  # fmt: skip
        found['libmtl uw'] = (partial(build_libmtl, 'UW', libmtl), partial(build_ours, 'uw', weighting=uw))
    return found


def difference(build: Build, build_reference: Build, work: Workload, batch: dict[str, Any], steps: int) -> float:
    """Largest relative difference of the gradients that two systems step along, from equal weights and noise.

    TorchJD's UPGrad and LibMTL's PCGrad multiply rows in float32, whose rounding the methods can amplify beyond the
    tolerance; here, and only here, they get float64, as our engine has. All are stepped by SGD: Adam would blow up the
    rounding errors of small gradients.
    """
    gradients = []
    for each in (build, build_reference):
        system = each(work=work, batch=batch, make_optimizer=_sgd)
        seen = flat_gradient(system)
        with mock.patch.object(random, 'shuffle', _OwnRowFirst()):
            for index in range(steps):
                torch.manual_seed(index)
                system.step()
        gradients.append(seen())
    found, expected = gradients
    if len(found) != steps or len(expected) != steps:
        raise UnequalUpdatesError(f'{len(found)} and {len(expected)} optimizer steps in {steps} training steps')
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, expected))


def check_methods(
    work: Workload, batch: dict[str, Any], torchjd: SimpleNamespace | None, libmtl: SimpleNamespace | None
) -> dict[str, float]:
    """:func:`difference` of every pair.

    Raises:
        UnequalUpdatesError: If one exceeds the tolerance.
    """
    found = {}
    for name, (build, reference) in pairs(work, torchjd, libmtl).items():
        steps = 2 if name in STATEFUL else 1
        found[name] = difference(build, reference, work, batch, steps)
        if not found[name] <= TOLERANCE:
            raise UnequalUpdatesError(
                f"with {work.num_tasks} tasks, '{name}' and our engine make different updates (relative difference "
                f'{found[name]:.2e}, at most {TOLERANCE:g} allowed); their costs cannot be compared'
            )
    return found


class _OwnRowFirst:
    """In place of the shuffles of LibMTL's PCGrad, one per row, which also projects a row off itself.

    Where the row itself comes first, as it does here, that does nothing; then come the others by number.
    """

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, order: list[int]) -> None:
        order.insert(0, order.pop(self._calls % len(order)))
        self._calls += 1


def _sgd(model: nn.Module) -> SGD:
    return SGD(model.parameters(), lr=LR)
