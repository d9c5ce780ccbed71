"""Reads by the host and interleaved times, on cases with a known answer."""

import pytest
import torch

from benchmarks.host_reads import HostReads
from benchmarks.systems import System
from mtl_plugins.experiments.measuring.timing import Spread, ratio, time_systems


@pytest.mark.parametrize(
    'read',
    [
        lambda x: x.sum().item(),
        lambda x: (x * 2).tolist(),
        lambda x: bool((x > 0).all()),
        lambda x: float(torch.stack([x.mean(), torch.zeros(())]).max()),
        lambda x: x[x > 0],
        lambda x: torch._foreach_norm([x, x])[0].item(),
        lambda x: x.detach().double().reshape(-1)[0].item(),
        lambda x: torch.nonzero(x),
    ],
)
def test_reads_of_device_values_count(read):
    x = torch.rand(4)
    with HostReads([x]) as reads:
        read(x)
    assert reads.count == 1


def test_gradients_are_on_the_device():
    weight = torch.rand(3, requires_grad=True)
    with HostReads([weight]) as reads:
        (weight * 2).sum().backward()
        bool(torch.isfinite(weight.grad).all())
    assert reads.count == 1


@pytest.mark.parametrize(
    'read', [lambda x: torch.ones(3).tolist(), lambda x: x.mean(), lambda x: x[1:], lambda x: torch.tensor(2.0).item()]
)
def test_other_values_do_not_count(read):
    x = torch.rand(4)
    with HostReads([x]) as reads:
        read(x)
    assert reads.count == 0


def test_times_are_taken_in_turn():
    model = torch.nn.Linear(1, 1)
    seen = []
    systems = [
        System('stgu', m, model, torch.optim.SGD(model.parameters()), lambda m=m: seen.append(m)) for m in (1, 2)
    ]
    ticks = []
    times = time_systems(systems, rounds=3, warmup=1, advance=lambda: ticks.append(None))
    assert seen == [1, 2, 2, 1, 1, 2, 2, 1]
    assert len(ticks) == 8
    assert {label: len(rounds) for label, rounds in times.items()} == {'stgu M=1': 3, 'stgu M=2': 3}


def test_ratios_are_taken_within_a_round():
    times = {
        'a': [dict(cpu=2.0), dict(cpu=20.0), dict(cpu=6.0), dict(cpu=4.0), dict(cpu=8.0)],
        'b': [dict(cpu=1.0), dict(cpu=10.0), dict(cpu=2.0), dict(cpu=4.0), dict(cpu=2.0)],
    }
    assert ratio(times, 'a', 'b', 'cpu') == Spread(median=2.0, low=2.0, high=3.0)
