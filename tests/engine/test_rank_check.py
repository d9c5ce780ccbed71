import pytest
import torch

from mtl_plugins.engine.hooks.rank_check import RankSyncCheckHook, _camps, tensor_checksum

from .processes import run_processes
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


@pytest.mark.parametrize('interval', [0, -1, 2.5])
def test_bad_interval(interval):
    with pytest.raises(ValueError, match='interval must be a positive number of iterations'):
        RankSyncCheckHook(interval=interval)


def test_drift_of_one_bit_in_one_of_two_processes_is_named(tmp_path):
    run_processes('drift', tmp_path)
