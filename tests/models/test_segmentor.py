import logging

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mtl_plugins.config import load_config
from mtl_plugins.models import LinearHead, MultiTaskSegmentor
from mtl_plugins.registry import MODELS
from mtl_plugins.task_specs import get_task_spec
from tests.support.tiny import ROOMS, shrink

from .segmentor_cases import HEADS, SIZE, batch, build, losses_of, sample


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
    model = MODELS.build(cfg)
    assert isinstance(model, MultiTaskSegmentor)
    assert isinstance(model.heads['depth'].predictor, LinearHead)
    assert model(torch.randn(2, 3, *SIZE), mode='tensor')['depth'].shape == (2, 1, *SIZE)
    told = MODELS.build(cfg | dict(decoder=dict(type='mtl_plugins.ConcatDecoder', in_channels=[5])))
    assert told.heads['depth'].predictor.conv.in_channels == 5


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


def test_images_are_laid_out_in_memory_as_the_weights_are():
    cfg = shrink(load_config(ROOMS))
    model = MODELS.build(cfg.model).eval()
    images, seen = torch.rand(2, 3, 96, 96), []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        plain = model(images)
        found = model.to(memory_format=torch.channels_last)(images)
    assert [each.is_contiguous(memory_format=torch.channels_last) for each in seen] == [False, True]
    for task, output in plain.items():
        torch.testing.assert_close(found[task], output, rtol=1e-4, atol=1e-4)
