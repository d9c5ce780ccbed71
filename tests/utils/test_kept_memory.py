"""Memory that is taken again is never the memory of something that still lives."""

import copy
import gc
import os
import pickle

import pytest
import torch

from mtl_plugins.runtime.memory import PeakMemory
from mtl_plugins.utils.kept_memory import KeptMemory

CPU = torch.device('cpu')


def zeros(memory, size=1000, dtype=torch.float32):
    return memory.zeros(size, dtype, CPU)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float64])
def test_the_next_tensor_lies_where_the_last_one_was(dtype):
    memory = KeptMemory()
    first = zeros(memory, dtype=dtype).add_(1)
    place = first.data_ptr()
    del first
    second = zeros(memory, dtype=dtype)
    assert second.data_ptr() == place
    assert (second.dtype, second.shape) == (dtype, (1000,))
    assert not second.any()


@pytest.mark.parametrize(
    'look',
    [
        lambda tensor: tensor,
        lambda tensor: tensor[:10],
        lambda tensor: tensor.view(10, 100).T,
        lambda tensor: tensor.detach(),
        lambda tensor: tensor.view(10, 100).unbind()[3],
        lambda tensor: tensor.numpy()[:3],
        lambda tensor: tensor.untyped_storage(),
        lambda tensor: torch.nn.Parameter(tensor),
        lambda tensor: (torch.ones((), requires_grad=True) * tensor).sum(),
    ],
)
def test_what_is_looked_at_stays(look):
    memory = KeptMemory()
    first = zeros(memory).add_(1)
    place, kept = first.data_ptr(), look(first)
    del first
    second = zeros(memory).add_(2)
    assert second.data_ptr() != place
    del kept
    gc.collect()
    del second
    assert not zeros(memory).any()


def test_another_size_is_other_memory():
    memory = KeptMemory()
    assert len(zeros(memory, 10)) == 10
    assert len(zeros(memory, 20)) == 20
    assert len(zeros(memory, 0)) == 0


def test_a_measurement_of_memory_begins_with_none():
    memory = KeptMemory()
    zeros(memory, 1000)
    with PeakMemory(CPU) as peak:
        zeros(memory, 1000)
        zeros(memory, 1000)
    assert peak.extra == 4000


def test_a_tensor_outlives_the_owner_of_its_memory():
    memory = KeptMemory()
    tensor = zeros(memory).add_(1)
    del memory
    gc.collect()
    assert tensor.sum() == 1000


COPIES = {'copy': copy.copy, 'deep copy': copy.deepcopy, 'pickle': lambda each: pickle.loads(pickle.dumps(each))}


@pytest.mark.parametrize('way', COPIES)
def test_a_copy_begins_with_nothing_and_is_measured_too(way):
    memory = KeptMemory()
    zeros(memory, 10**6)
    assert len(pickle.dumps(memory)) < 1000
    other = COPIES[way](memory)
    assert zeros(other, 10**6).data_ptr() != zeros(memory, 10**6).data_ptr()
    with PeakMemory(CPU) as peak:
        zeros(other, 10**6)
    assert peak.extra == 4 * 10**6


def test_a_process_that_is_forked_holds_nothing_of_it():
    memory = KeptMemory()
    seen = zeros(memory).add_(1)
    child = os.fork()
    if not child:
        os._exit(memory._bytes is not None)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert memory._bytes is None
    assert seen.sum() == 1000


def test_another_default_device_changes_nothing():
    with torch.device('meta'):
        assert zeros(KeptMemory()).device == CPU
