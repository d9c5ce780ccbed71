import logging

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.utils._python_dispatch import TorchDispatchMode

from mtl_plugins.models import LinearHead, MultiTaskSegmentor, TaskHead
from mtl_plugins.registry import MODELS
from mtl_plugins.task_specs import TASK_SPECS, get_task_spec

HEADS = dict(semseg=dict(num_classes=5), depth={}, normals={}, edge={}, principal_curvature={})
BACKBONE = dict(type='mtl_plugins.TimmViT', img_size=(32, 48), embed_dim=32, depth=2, num_heads=2, patch_size=8)
SIZE = (32, 48)


def build(heads=None, seed=0, **kwargs):
    backbone = BACKBONE | dict(drop_path_rate=0.0) | kwargs.pop('backbone', {})
    torch.manual_seed(seed)
    return MODELS.build(
        dict(
            type='mtl_plugins.MultiTaskSegmentor', backbone=backbone, heads=HEADS if heads is None else heads, **kwargs
        )
    )


def target_for(task, size, generator):
    spec = get_task_spec(task)
    if spec.is_categorical:
        data = torch.randint(0, 2, (1, *size), generator=generator, dtype=torch.uint8)
    else:
        data = torch.rand(spec.channels, *size, generator=generator) + 0.1
    unlabelled = torch.rand(size, generator=generator) < 0.3
    data[:, unlabelled] = spec.fill
    return data


def sample(tasks=tuple(HEADS), size=SIZE, seed=0, **meta):
    generator = torch.Generator().manual_seed(seed)
    out = SegDataSample(metainfo=meta)
    for task in tasks:
        out.set_data({f'gt_{task}': PixelData(data=target_for(task, size, generator))})
    return out


def batch(*samples, seed=0):
    return torch.randn(len(samples), 3, *SIZE, generator=torch.Generator().manual_seed(seed)), list(samples)


def losses_of(out):
    return {key.removesuffix('.loss'): value for key, value in out.items() if key.endswith('.loss')}


# -- losses ------------------------------------------------------------------------------------------------------------


def test_loss_keys_and_numbers_of_valid_pixels():
    model, (inputs, samples) = build(), batch(sample(seed=1), sample(seed=2))
    out = model(inputs, samples, mode='loss')
    assert list(out) == [f'{task}.{key}' for task in HEADS for key in ('loss', 'num_valid')]
    assert all(value.ndim == 0 for value in out.values())
    for task in HEADS:
        fill = torch.tensor(get_task_spec(task).fill)
        target = torch.stack([s.get(f'gt_{task}').data for s in samples]).float()
        unlabelled = target.isnan() if fill.isnan() else target == fill
        assert out[f'{task}.num_valid'] == (~unlabelled.all(1)).sum()
    total, log = model.parse_losses(out)
    torch.testing.assert_close(total, sum(losses_of(out).values()))
    total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert log['edge.num_valid'] == out['edge.num_valid']


def test_loss_is_that_of_a_plain_reimplementation():
    model, (inputs, samples) = build(), batch(sample(seed=1), sample(seed=2))
    out = model(inputs, samples, mode='loss')
    joined = torch.cat(model.backbone(inputs), dim=1)
    raw = {
        task: F.interpolate(
            F.conv2d(joined, head.predictor.conv.weight, head.predictor.conv.bias), SIZE, mode='bilinear'
        )
        for task, head in model.heads.items()
    }
    gt = {task: torch.stack([s.get(f'gt_{task}').data for s in samples]) for task in HEADS}
    ce = F.cross_entropy(raw['semseg'], gt['semseg'][:, 0].long(), ignore_index=255)
    torch.testing.assert_close(out['semseg.loss'], ce)
    depth = (raw['depth'] - gt['depth']).abs()[gt['depth'] > 0].mean()
    torch.testing.assert_close(out['depth.loss'], depth)
    curvature = (raw['principal_curvature'] - gt['principal_curvature']).square()
    torch.testing.assert_close(out['principal_curvature.loss'], curvature[~curvature.isnan()].mean())


def test_missing_tasks():
    """A sample without a task adds no valid pixel; a task of no sample is left out."""
    model = build()
    inputs, samples = batch(sample(['depth', 'semseg'], seed=1), sample(['semseg'], seed=2), sample([], seed=3))
    out = model(inputs, samples, mode='loss')
    assert list(losses_of(out)) == ['semseg', 'depth']
    alone = model(inputs[:1], samples[:1], mode='loss')
    assert out['depth.num_valid'] == alone['depth.num_valid']
    torch.testing.assert_close(out['depth.loss'], alone['depth.loss'])


def test_joint_batch_is_the_weighted_mean_of_its_parts():
    model = build().double()
    inputs, samples = batch(
        sample(seed=1), sample(['depth', 'edge', 'normals'], seed=2), sample(['semseg', 'normals'], seed=3)
    )
    inputs = inputs.double()

    def grads(inputs, samples):
        out, wrt = model(inputs, samples, mode='loss'), tuple(model.backbone.parameters())
        return {
            task: (out[f'{task}.num_valid'], torch.autograd.grad(loss, wrt, retain_graph=True))
            for task, loss in losses_of(out).items()
        }

    joint, first, second = grads(inputs, samples), grads(inputs[:1], samples[:1]), grads(inputs[1:], samples[1:])
    for task, (n, gradient) in joint.items():
        parts = [part[task] for part in (first, second) if task in part]
        assert n == sum(count for count, _ in parts)
        for i, g in enumerate(gradient):
            torch.testing.assert_close(g, sum(count * other[i] for count, other in parts) / n)


def test_batch_without_any_target_warns_once_and_gives_nothing():
    model, (inputs, samples) = build(dict(depth={}, edge={})), batch(sample(['semseg']), sample([]))
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    try:
        assert model(inputs, samples, mode='loss') == {}
        assert model(inputs, samples, mode='loss') == {}
    finally:
        logger.removeHandler(handler)
    assert len(lines) == 1
    assert "no target for any of the tasks ('depth', 'edge') (its targets: ['gt_semseg'])" in lines[0]
    total, log = model.parse_losses({})
    assert total == 0
    assert log['loss'] == 0


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_is_finite_and_near_full_precision(dtype):
    model, (inputs, samples) = build(), batch(sample(seed=1), sample(seed=2))
    full = losses_of(model(inputs, samples, mode='loss'))
    with torch.autocast('cpu', dtype=dtype):
        half = losses_of(model(inputs, samples, mode='loss'))
    for task, loss in half.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, full[task], rtol=0.05, atol=0.02)
    sum(half.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_bad_targets_are_named():
    model = build()
    wrong_size = sample(['depth'], size=(32, 40), img_path='rooms/7.png')
    with pytest.raises(
        ValueError, match=r"gt_depth of sample 'rooms/7.png' \(task 'depth'\) has size \(32, 40\), .* has \(32, 48\)"
    ):
        model(*batch(sample(['depth']), wrong_size), mode='loss')
    flat = SegDataSample()
    flat.set_data(dict(gt_normals=PixelData(data=torch.rand(1, *SIZE))))
    with pytest.raises(
        ValueError, match=r'gt_normals of sample 1 of the batch .* shape \(3, H, W\), but got \(1, 32, 48\)'
    ):
        model(*batch(sample(['normals']), flat), mode='loss')
    for task, dtype in (('semseg', torch.float32), ('depth', torch.uint8)):
        typed = SegDataSample()
        typed.set_data({f'gt_{task}': PixelData(data=torch.zeros(1, *SIZE, dtype=dtype))})
        with pytest.raises(ValueError, match=rf'gt_{task} .* must hold .*, but has type {dtype}'):
            model(*batch(typed), mode='loss')
    labels = sample(['semseg'])
    labels.gt_semseg.data[0, 0, 0] = 7
    with pytest.raises(ValueError, match=r"labels of task 'semseg' must be 0..4 or 255 .* found \[7\]"):
        model(*batch(labels), mode='loss')


# -- idle heads --------------------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(TaskHead, '_check_labels', lambda self, target: None)  # done on the CPU alone
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


# -- predictions -------------------------------------------------------------------------------------------------------


def test_predictions_of_every_kind():
    heads = {task: dict(num_classes=5) if spec.kind == 'classes' else {} for task, spec in TASK_SPECS.items()}
    model, (inputs, samples) = build(heads).eval(), batch(sample([]), sample([]))
    out = model(inputs, samples, mode='predict')
    assert all(a is b for a, b in zip(out, samples))
    for one in out:
        for task, spec in TASK_SPECS.items():
            pred = one.get(f'pred_{task}').data
            assert pred.shape == (spec.target_channels, *SIZE)
            if spec.kind == 'classes':
                assert pred.dtype == torch.int64
                assert 0 <= pred.min() <= pred.max() < 5
            elif spec.kind == 'binary':
                assert 0 <= pred.min() <= pred.max() <= 1
            elif spec.kind == 'depth':
                assert pred.min() >= 0
            elif spec.kind == 'normals':
                torch.testing.assert_close(pred.norm(dim=0), torch.ones(SIZE))
    assert len(model(inputs, mode='predict')) == 2


def test_prediction_equals_the_decoded_raw_output():
    model, (inputs, samples) = build().eval(), batch(sample(seed=1), sample(seed=2))
    raw = model(inputs, mode='tensor')
    assert {task: tuple(r.shape) for task, r in raw.items()}['normals'] == (2, 3, *SIZE)
    for i, one in enumerate(model(inputs, samples, mode='predict')):
        for task, head in model.heads.items():
            torch.testing.assert_close(one.get(f'pred_{task}').data, head.decode(raw[task])[i])


@pytest.mark.parametrize('offset', [(0, 0), (5, 3)])
@pytest.mark.parametrize('targets', ['content', 'padded', 'none'])
def test_padding_is_cut_off(offset, targets):
    model = build().eval()
    content = (20, 40)
    window = (..., slice(offset[0], offset[0] + 20), slice(offset[1], offset[1] + 40))
    meta = dict(img_shape=content, ori_shape=content, pad_shape=SIZE, pad_offset=offset)
    one = sample([] if targets == 'none' else tuple(HEADS), size=SIZE if targets == 'padded' else content, **meta)
    before = {task: one.get(f'gt_{task}').data for task in HEADS} if targets != 'none' else {}
    inputs, samples = batch(one)
    raw = model(inputs, mode='tensor')
    (out,) = model(inputs, samples, mode='predict')
    for task, head in model.heads.items():
        torch.testing.assert_close(out.get(f'pred_{task}').data, head.decode(raw[task])[0][window])
        if targets != 'none':
            gt = out.get(f'gt_{task}').data
            assert gt.shape[-2:] == content
            expected = before[task] if targets == 'content' else before[task][window]
            torch.testing.assert_close(gt, expected, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize('with_targets', [True, False])
def test_resized_images_are_predicted_on_the_original_grid(with_targets):
    model = build().eval()
    one = sample(tuple(HEADS) if with_targets else (), size=(64, 96), img_shape=SIZE, ori_shape=(64, 96))
    inputs, samples = batch(one)
    (out,) = model(inputs, samples, mode='predict')
    raw = model(inputs, mode='tensor')['depth']
    expected = F.interpolate(raw, (64, 96), mode='bilinear').clamp_min(0)[0]
    torch.testing.assert_close(out.pred_depth.data, expected)
    torch.testing.assert_close(out.pred_normals.data.norm(dim=0), torch.ones(64, 96))


def test_shapes_that_fit_nothing_are_named():
    model = build().eval()
    odd = sample(['edge'], size=(9, 9), img_shape=SIZE, ori_shape=(64, 96), img_path='a.png')
    with pytest.raises(ValueError, match=r"gt_edge of sample 'a.png' \(task 'edge'\) has size \(9, 9\), .*\(64, 96\)"):
        model(*batch(odd), mode='predict')
    with pytest.raises(
        ValueError, match=r'img_shape \(30, 48\) at pad_offset \(5, 0\) does not fit into .* \(32, 48\)'
    ):
        model(*batch(sample([], img_shape=(30, 48), pad_offset=(5, 0))), mode='predict')


def test_other_input_sizes():
    model = build().eval()
    out = model(torch.randn(1, 3, 64, 40), [sample([])], mode='predict')
    assert out[0].pred_depth.data.shape == (1, 64, 40)


# -- building ----------------------------------------------------------------------------------------------------------


def test_heads_choose_their_features():
    heads = dict(depth={}, normals=dict(features='last'))
    model = build(heads)
    assert model.heads['depth'].predictor.conv.in_channels == 64
    assert model.heads['normals'].predictor.conv.in_channels == 32
    maps = model.backbone(torch.ones(1, 3, *SIZE))
    raw = model(torch.ones(1, 3, *SIZE), mode='tensor')
    expected = F.interpolate(model.heads['normals'].predictor(maps[-1]), SIZE, mode='bilinear')
    torch.testing.assert_close(raw['normals'], expected)
    assert build(dict(depth=dict(features='last'))).decoder is None
    chosen = build(decoder=dict(type='mtl_plugins.ConcatDecoder', in_index=[1]))
    assert chosen.heads['depth'].predictor.conv.in_channels == 32


def test_order_of_the_tasks_is_that_of_the_config():
    heads = ConfigDict(normals={}, depth={}, semseg=dict(num_classes=3))
    model = build(heads)
    assert model.tasks == ('normals', 'depth', 'semseg')
    assert 'type' not in heads['normals']  # configs are not changed


def test_init_weights_is_deterministic_and_keeps_pretrained_weights(tmp_path):
    states = []
    for seed in (1, 2):
        model = build(seed=seed)
        torch.manual_seed(9)
        model.init_weights()
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    torch.save(states[0], tmp_path / 'model.pth')  # a whole segmentor is a source for a backbone
    model = build(seed=3, backbone=dict(pretrained=str(tmp_path / 'model.pth')))
    model.init_weights()
    for name, value in model.state_dict().items():
        assert torch.equal(value, states[0][name]) == name.startswith('backbone.'), name


def test_wrong_configs_are_named():
    with pytest.raises(ValueError, match=r'heads must name at least one task'):
        build({})
    with pytest.raises(KeyError, match=r"unknown task 'dept': did you mean 'depth'"):
        build(dict(dept={}))
    with pytest.raises(ValueError, match=r"heads\['depth'\] is for task 'edge'"):
        build(dict(depth=dict(task='edge')))
    with pytest.raises(ValueError, match=r"test_cfg.mode must be 'whole', but got 'slide'"):
        build(test_cfg=dict(mode='slide'))
    model = build()
    inputs, samples = batch(sample(), sample())
    with pytest.raises(ValueError, match=r"mode must be 'loss', 'predict' or 'tensor', but got 'train'"):
        model(inputs, samples, mode='train')
    with pytest.raises(ValueError, match=r"mode='loss' needs data_samples"):
        model(inputs, mode='loss')
    with pytest.raises(ValueError, match=r'got 2 images, but 1 data samples'):
        model(inputs, samples[:1], mode='loss')


class SilentBackbone(torch.nn.Module):
    """Says nothing of its channels, as backbones of mmseg do, and returns one tensor."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, 4, stride=4)

    def forward(self, x):
        return self.conv(x)


def test_backbones_that_do_not_tell_their_channels():
    cfg = dict(type='mtl_plugins.MultiTaskSegmentor', backbone=dict(type=SilentBackbone), heads=dict(depth={}))
    with pytest.raises(ValueError, match=r'the backbone SilentBackbone does not tell its out_channels; give decoder='):
        MODELS.build(cfg)
    model = MODELS.build(cfg | dict(decoder=dict(type='mtl_plugins.ConcatDecoder', in_channels=[6])))
    assert isinstance(model, MultiTaskSegmentor)
    assert isinstance(model.heads['depth'].predictor, LinearHead)
    assert model(torch.randn(2, 3, *SIZE), mode='tensor')['depth'].shape == (2, 1, *SIZE)


def test_train_and_val_step_with_the_data_preprocessor():
    model = build(data_preprocessor=dict(type='mtl_plugins.MultiTaskDataPreProcessor', size_divisor=8))
    optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-2))
    data = dict(
        inputs=[torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in ((30, 41), (27, 48))],
        data_samples=[sample(size=(30, 41), seed=1), sample(['depth', 'semseg'], size=(27, 48), seed=2)],
    )
    first = model.train_step(dict(data, data_samples=[s.clone() for s in data['data_samples']]), optim)
    for _ in range(5):
        last = model.train_step(dict(data, data_samples=[s.clone() for s in data['data_samples']]), optim)
    assert last['loss'] < first['loss']
    model.eval()
    with torch.no_grad():
        out = model.val_step(data)
    assert [s.pred_depth.data.shape[-2:] for s in out] == [(30, 41), (27, 48)]
    assert [s.gt_depth.data.shape[-2:] for s in out] == [(30, 41), (27, 48)]
