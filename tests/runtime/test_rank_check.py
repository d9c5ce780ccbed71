from types import SimpleNamespace

import pytest
import torch

from mtl_plugins.runtime.hooks import rank_check
from mtl_plugins.runtime.hooks.rank_check import RankMismatchError, RankSyncCheckHook, _camps, tensor_checksum
from tests.engine.toy import make_model
from tests.support.two_ranks import run_ranks

from .safety import build_runner, release


@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool]
)
def test_every_single_bit_counts(dtype):
    tensor = torch.arange(24).reshape(4, 6).to(dtype)
    reference = tensor_checksum(tensor)
    assert tensor_checksum(tensor.clone()) == reference
    assert tensor_checksum(tensor.t().contiguous().t()) == reference  # the layout does not count
    if dtype is not torch.bool:
        integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
        for index in range(24):
            for bit in (0, tensor.element_size() * 8 - 2):
                changed = tensor.clone()
                changed.view(-1).view(integers)[index] ^= 1 << bit
                assert tensor_checksum(changed) != reference


def test_exchange_sign_of_zero_and_nan():
    tensor = torch.randn(50)
    exchanged = tensor[torch.randperm(50, generator=torch.Generator().manual_seed(1))]
    assert tensor_checksum(exchanged) != tensor_checksum(tensor)
    assert tensor_checksum(torch.tensor([0.0])) != tensor_checksum(torch.tensor([-0.0]))
    nan = torch.full((3,), float('nan'))
    assert tensor_checksum(nan) == tensor_checksum(nan.clone())
    assert tensor_checksum(torch.zeros(0)) == 0
    assert tensor_checksum(torch.tensor(1j)).dtype == torch.int64


def test_pieces_give_different_sums_than_their_exchange():
    first = torch.zeros((1 << 20) + 5)
    second = first.clone()
    first[0], second[1 << 20] = 1.0, 1.0
    third = first.clone()
    third[-1] = 2.0
    assert len({int(tensor_checksum(tensor)) for tensor in (first, second, third)}) == 3


def test_camps():
    assert _camps([3, 4, 3, 5]) == 'ranks 0, 2 differ from rank 1 differ from rank 3'


def test_one_process(tmp_path):
    runner = build_runner(tmp_path, [RankSyncCheckHook(interval=1)], iters=2)
    runner.train()
    release(runner)


def two_processes(monkeypatch, here, there):
    """This process holds ``here`` and the other one ``there``; returns the moments of comparisons as they come."""
    compared = []

    def all_gather(sums):
        compared.append(len(sums))
        tensors = dict(there.named_parameters(), **(dict(there.named_buffers()) if len(sums) > other else {}))
        return [sums, torch.stack([tensor_checksum(tensor) for tensor in tensors.values()])]

    other = len(list(there.parameters()))
    monkeypatch.setattr(rank_check, 'get_world_size', lambda: 2)
    monkeypatch.setattr(rank_check, 'all_gather', all_gather)
    return SimpleNamespace(model=here, iter=0), compared


def test_what_is_compared_and_named(monkeypatch):
    here, there = make_model(batch_norm=True), make_model(batch_norm=True)
    runner, compared = two_processes(monkeypatch, here, there)
    names, buffers = dict(here.named_parameters()), dict(here.named_buffers())
    RankSyncCheckHook().check(runner, 'now')
    RankSyncCheckHook(buffers=True).check(runner, 'now')
    assert compared == [len(names), len(names) + len(buffers)]

    there.backbone[1].running_mean += 1  # differs by design unless it is asked for
    RankSyncCheckHook().check(runner, 'now')
    with pytest.raises(
        RankMismatchError, match=r'^1 of \d+ parameters differ .* now:\n  backbone.1.running_mean: rank 0'
    ):
        RankSyncCheckHook(buffers=True).check(runner, 'now')

    with torch.no_grad():
        for parameter in there.parameters():
            parameter += 1
    for show in (1, 2, len(names) - 1):
        with pytest.raises(RankMismatchError) as error:
            RankSyncCheckHook(show=show).check(runner, 'now')
        assert str(error.value).count(': rank 0 differ from rank 1') == show
        assert f'\n  ... and {len(names) - show} more\n' in str(error.value)
    with pytest.raises(RankMismatchError) as error:
        RankSyncCheckHook(show=len(names)).check(runner, 'now')
    assert '... and' not in str(error.value)


def test_when_it_is_compared(monkeypatch):
    runner, compared = two_processes(monkeypatch, make_model(), make_model())
    hook = RankSyncCheckHook(interval=3)
    hook.before_train(runner)
    assert len(compared) == 1
    for runner.iter in range(7):
        hook.after_train_iter(runner, runner.iter)
    assert len(compared) == 3
    hook.after_train(runner)
    assert len(compared) == 4
    RankSyncCheckHook().check(SimpleNamespace(model=torch.nn.Module()), 'now')
    assert len(compared) == 4, 'a model without parameters has none that differ'


@pytest.mark.parametrize('interval', [0, -1, 2.5])
def test_bad_interval(interval):
    with pytest.raises(ValueError, match=r'RankSyncCheckHook\.interval must be an integer >= 1'):
        RankSyncCheckHook(interval=interval)


def test_drift_of_one_bit_in_one_of_two_processes_is_named(tmp_path):
    run_ranks('-m', 'tests.runtime.processes', 'drift', tmp_path)
