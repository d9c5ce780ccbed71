"""The multi-decoder baselines and MTI-Net as the shipped configs describe them, made of mmseg's own parts."""

import functools
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmseg.models.backbones import HRNet, ResNet
from mmseg.models.decode_heads import ASPPHead, FCNHead

from mtl_plugins.models import MTINetDecoder
from mtl_plugins.registry import MODELS

from .segmentor_cases import sample

pytestmark = pytest.mark.filterwarnings('ignore:Fail to import ``MultiScaleDeformableAttention``:UserWarning')

MODEL_CONFIGS = Path(__file__).parents[2] / 'configs/_base_/models'
NYUD, PASCAL = (
    dict(semseg=40, depth=1, normals=3, edge=1),
    dict(semseg=21, human_parts=7, sal=1, normals=3, edge=1),
)
SIZE = (48, 64)


def model_config(model, dataset):
    return Config.fromfile(MODEL_CONFIGS / f'{model}_{dict(nyud="nyud", pascal="pascal-context")[dataset]}.py').model


def build(cfg):
    torch.manual_seed(0)
    return MODELS.build(cfg)


@functools.cache
def described(model, dataset):
    """A shipped model without values."""
    with torch.device('meta'):
        return build(model_config(model, dataset))


def count(module):
    return sum(p.numel() for p in module.parameters())


def hrnet_head(outputs):
    """1x1 convolution over 270 channels with BN, 1x1 convolution to the outputs."""
    return 270 * 270 + 2 * 270 + 270 * outputs + outputs


def aspp_head(outputs):
    """mmseg's: pooling, 1x1 and three 3x3 branches of 256 channels with BN, a 3x3 over them, a 1x1 to the outputs."""
    branches = 2048 * 256 * (1 + 1 + 3 * 9) + 5 * 2 * 256
    return branches + 5 * 256 * 256 * 9 + 2 * 256 + 256 * outputs + outputs


@pytest.mark.parametrize(('dataset', 'tasks'), [('nyud', NYUD), ('pascal', PASCAL)])
@pytest.mark.parametrize(
    ('model', 'backbone', 'head'),
    [
        ('hrnet18', (HRNet, 3_860_720), (FCNHead, hrnet_head)),
        ('r50-aspp', (ResNet, 23_508_032), (ASPPHead, aspp_head)),
        ('mti-net_hrnet18', (HRNet, 3_860_720), (FCNHead, hrnet_head)),
    ],
)
def test_parts_and_parameters(model, backbone, head, dataset, tasks):
    net = described(model, dataset)
    assert type(net.backbone) is backbone[0]
    assert count(net.backbone) == backbone[1]
    assert {task: one.out_channels for task, one in net.heads.items()} == tasks
    for task, outputs in tasks.items():
        assert type(net.heads[task].predictor) is head[0]
        assert count(net.heads[task]) == head[1](outputs)
    assert isinstance(net.decoder, MTINetDecoder) == model.startswith('mti')


@pytest.mark.parametrize(
    ('model', 'nyud', 'pascal'),
    [
        ('hrnet18', 4_166_675, 4_236_863),
        ('r50-aspp', 96_145_773, 114_299_233),
        ('mti-net_hrnet18', 17_958_797, 24_491_486),
    ],
)
def test_parameters_of_the_whole(model, nyud, pascal):
    """The figures of docs/decoders.md."""
    assert [count(described(model, dataset)) for dataset in ('nyud', 'pascal')] == [nyud, pascal]


def test_the_survey_weighs_its_losses():
    weights = {
        dataset: {task: head.get('loss_weight', 1.0) for task, head in model_config('hrnet18', dataset).heads.items()}
        for dataset in ('nyud', 'pascal')
    }
    assert weights['nyud'] == dict(semseg=1, depth=1, normals=10, edge=50)
    assert weights['pascal'] == dict(semseg=1, human_parts=2, sal=5, normals=10, edge=50)


@pytest.mark.parametrize('model', ['hrnet18', 'r50-aspp', 'mti-net_hrnet18'])
def test_one_batch_from_random_weights(model):
    """Offline, as the configs are; the ResNet is exchanged for one that is small enough for a test."""
    cfg = model_config(model, 'nyud')
    if model == 'r50-aspp':
        cfg.backbone.update(depth=18, base_channels=16)
    net = build(cfg)
    net.init_weights()
    net.train()
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    samples = [sample(NYUD, size=SIZE, seed=seed) for seed in (1, 2)]
    total, log = net.parse_losses(net(images, samples, mode='loss'))
    total.backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
    assert torch.isfinite(total)
    per_task = 5 if model.startswith('mti') else 1
    assert len([key for key in log if '.loss' in key]) == per_task * len(NYUD)
    net.eval()
    with torch.no_grad():
        (result,) = net(images[:1], samples[:1], mode='predict')
    assert {task: tuple(result.get(f'pred_{task}').data.shape) for task in NYUD} == {
        task: (3 if task == 'normals' else 1, *SIZE) for task in NYUD
    }


def test_the_resnet_keeps_an_eighth_of_the_resolution():
    net = described('r50-aspp', 'nyud')
    with torch.no_grad():
        (last,) = net.backbone(torch.empty(1, 3, *SIZE, device='meta'))
    assert last.shape == (1, 2048, 6, 8)
    dilations = {m.dilation[0] for m in net.heads['depth'].predictor.aspp_modules.modules() if hasattr(m, 'dilation')}
    assert dilations == {1, 12, 24, 36}


def test_pretrained_weights_from_a_file(tmp_path):
    """What the comments of the configs say about init_cfg works with a local file."""
    cfg = model_config('hrnet18', 'nyud')
    source = MODELS.build(cfg.backbone)
    torch.save(source.state_dict(), tmp_path / 'hrnet.pth')
    cfg.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'hrnet.pth'))
    net = build(cfg)
    net.init_weights()
    loaded = net.backbone.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in source.state_dict().items())
