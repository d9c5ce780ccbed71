import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mtl_plugins.models import TaskHead

from .segmentor_cases import HEADS, batch, build, losses_of, sample


def test_idle_heads_have_no_graph_and_the_others_are_as_in_a_full_run():
    model, (inputs, samples) = build().train(), batch(sample(seed=1), sample(seed=2))
    full = losses_of(model(inputs, samples, mode='loss'))
    model.set_active_tasks(['depth', 'edge'])
    part = losses_of(model(inputs, samples, mode='loss'))
    assert {task for task, loss in part.items() if loss.requires_grad} == {'depth', 'edge'}
    assert all(torch.equal(part[task], full[task]) for task in HEADS)
    wrt = tuple(model.parameters())
    expected = torch.autograd.grad(full['depth'] + full['edge'], wrt, allow_unused=True)
    actual = torch.autograd.grad(part['depth'] + part['edge'], wrt, allow_unused=True)
    for a, b in zip(actual, expected):
        assert (a is None and b is None) or torch.equal(a, b)
    model.set_active_tasks([])
    assert not any(loss.requires_grad for loss in losses_of(model(inputs, samples, mode='loss')).values())
    model.set_active_tasks(None)
    assert all(loss.requires_grad for loss in losses_of(model(inputs, samples, mode='loss')).values())
    with torch.no_grad():
        assert not any(loss.requires_grad for loss in losses_of(model(inputs, samples, mode='loss')).values())


@pytest.mark.filterwarnings('ignore:Fail to import ``MultiScaleDeformableAttention``')
def test_idle_heads_stay_in_training_mode_and_draw_the_same_noise():
    """Dropout of one head must not depend on which heads are idle, or the same seed would not mean the same masks."""
    predictor = dict(type='mmseg.FCNHead', channels=8, num_convs=1, norm_cfg=dict(type='BN'), dropout_ratio=0.5)
    heads = dict(semseg=dict(num_classes=5, predictor=predictor), depth=dict(predictor=predictor), normals={})
    model = build(heads, backbone=dict(drop_path_rate=0.3)).train()
    inputs, samples = batch(sample(seed=1), sample(seed=2))
    results = []
    for active in (None, ['semseg'], ['normals', 'depth'], []):
        model.set_active_tasks(active)
        torch.manual_seed(3)
        results.append(losses_of(model(inputs, samples, mode='loss')))
    for other in results[1:]:
        assert all(torch.equal(other[task], results[0][task]) for task in heads)


def test_idle_heads_save_memory():
    def saved_elements(active):
        model = build()
        model.set_active_tasks(active)
        count = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: count.append(t.numel()) or t, lambda t: t):
            model(*batch(sample(seed=1), sample(seed=2)), mode='loss')
        return sum(count)

    none, some, everything = (saved_elements(active) for active in ([], ['depth'], None))
    assert none < some < everything


def test_active_tasks_are_validated():
    model = build()
    with pytest.raises(KeyError, match=r"the model has no task 'dept': did you mean 'depth'"):
        model.set_active_tasks(['semseg', 'dept'])
    with pytest.raises(KeyError, match=r"the model has no task 'xyz': its tasks: semseg, depth"):
        model.set_active_tasks(['xyz'])
    with pytest.raises(TypeError, match=r"several task names or None, but got the string 'depth'"):
        model.set_active_tasks('depth')


# -- no value is read back from the device in training -----------------------------------------------------------------


class NoReadBack(TorchDispatchMode):
    """Raises where a program would have to wait for the device: reading a number, or shapes that depend on values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket._qualified_op_name
        if name in (
            'aten::_local_scalar_dense',
            'aten::nonzero',
            'aten::masked_select',
            'aten::_unique2',
            'aten::equal',
        ):
            raise AssertionError(f'{name} reads values back')
        if name == 'aten::index' and any(i is not None and i.dtype == torch.bool for i in args[1]):
            raise AssertionError('boolean indexing reads values back')
        return func(*args, **(kwargs or {}))


def every_loss_and_kind():
    balanced = dict(channels=2, loss=dict(type='mtl_plugins.BalancedCrossEntropyLoss'))
    return build(HEADS | dict(sal=balanced), backbone=dict(drop_path_rate=0.2)).train()


def test_training_reads_nothing_back(monkeypatch):
    monkeypatch.setattr(TaskHead, 'check_labels', lambda self, *args: None)  # done on the CPU alone
    model = every_loss_and_kind()
    inputs, samples = batch(sample([*HEADS, 'sal'], seed=1), sample(['depth'], seed=2))
    model.set_active_tasks(['depth', 'semseg', 'sal'])
    with pytest.raises(AssertionError, match='reads'), NoReadBack():
        torch.ones(3)[torch.ones(3) > 0]
    with NoReadBack():
        losses = losses_of(model(inputs, samples, mode='loss'))
        sum(loss for loss in losses.values() if loss.requires_grad).backward()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_gpu_losses_equal_cpu_losses_without_waiting_for_the_device(dtype):
    model = every_loss_and_kind().eval()  # no drop path, whose masks differ between devices
    inputs, samples = batch(sample([*HEADS, 'sal'], seed=1), sample(['depth'], seed=2))
    expected = losses_of(model(inputs, samples, mode='loss'))
    model.cuda()
    inputs, samples = inputs.cuda(), [one.to('cuda') for one in samples]
    torch.cuda.set_sync_debug_mode('error')
    try:
        with torch.autocast('cuda', dtype=dtype, enabled=dtype != torch.float32):
            losses = losses_of(model(inputs, samples, mode='loss'))
        sum(losses.values()).backward()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    tolerance = dict(rtol=1e-3, atol=1e-4) if dtype == torch.float32 else dict(rtol=0.05, atol=0.02)
    for task, loss in losses.items():
        torch.testing.assert_close(loss.cpu(), expected[task], **tolerance)
