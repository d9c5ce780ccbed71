import pytest
import torch

from mtl_plugins.models import TimmViT
from mtl_plugins.registry import MODELS

from .micro_vit import MICRO, micro


def params(model):
    return sum(p.numel() for p in model.parameters())


def model_cfg(name, img_size, heads):
    backbone = dict(type='mtl_plugins.TimmViT', model_name=f'vit_{name}_patch16_384', img_size=img_size)
    return dict(type='mtl_plugins.MultiTaskSegmentor', backbone=backbone, heads=heads)


NYUD = ((448, 576), dict(semseg=dict(num_classes=40), depth={}, normals={}, edge={}))
PASCAL = (
    (512, 512),
    dict(
        semseg=dict(num_classes=21), human_parts=dict(num_classes=7), normals={}, edge={},
        sal=dict(channels=2, loss=dict(type='mtl_plugins.BalancedCrossEntropyLoss')),
    ),
)  # fmt: skip
TASKONOMY = (
    (256, 256),
    dict(
        depth_euclidean={}, depth_zbuffer={}, edge_occlusion={}, edge_texture={}, keypoints2d={}, keypoints3d={},
        normal={}, principal_curvature={}, reshading=dict(channels=3), segment_unsup2d=dict(channels=1),
        segment_unsup25d={},
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ('name', 'dataset', 'total', 'in_heads'),
    [
        ('tiny', NYUD, 5_714_925, 34_605), ('tiny', PASCAL, 5_709_538, 26_146), ('tiny', TASKONOMY, 5_548_240, 12_304),
        ('small', NYUD, 22_046_637, 69_165), ('small', PASCAL, 22_035_874, None),
        ('small', TASKONOMY, 21_713_296, None),
        ('base', NYUD, 86_560_557, 138_285), ('base', PASCAL, 86_539_042, None), ('base', TASKONOMY, 85_893_904, None),
        ('large', NYUD, 304_317_485, 184_365), ('large', PASCAL, 304_288_802, None),
        ('large', TASKONOMY, 303_428_624, None),
    ],
)  # fmt: skip
def test_parameter_counts_of_the_released_models(name, dataset, total, in_heads):
    with torch.device('meta'):
        model = MODELS.build(model_cfg(name, *dataset))
    assert params(model) == total
    assert in_heads is None or params(model.heads) == in_heads


def test_maps_are_raw_blocks_and_the_last_one_is_normed():
    vit = micro().eval()
    blocks = []
    for block in vit.vit.blocks:
        block.register_forward_hook(lambda module, args, output: blocks.append(output[:, 1:]))
    maps = vit(torch.randn(2, 3, 48, 32))
    assert vit.out_indices == (0, 1, 2, 3)
    assert vit.out_channels == (32,) * 4
    assert vit.grid_size == (6, 4)
    assert [tuple(m.shape) for m in maps] == [(2, 32, 6, 4)] * 4
    for tokens, m in zip([*blocks[:3], vit.vit.norm(blocks[3])], maps):
        for row in range(6):
            torch.testing.assert_close(m[:, :, row], tokens[:, 4 * row : 4 * row + 4].transpose(1, 2))


def test_out_indices():
    x = torch.randn(1, 3, 48, 32)
    assert len(micro(out_indices=(3,))(x)) == 1
    assert micro(out_indices=(1, -1)).out_indices == (1, 3)
    torch.testing.assert_close(micro(out_indices=(1, 3))(x)[1], micro()(x)[3], rtol=0, atol=0)
    assert micro(depth=2).out_indices == (0, 1)
    for wrong in ((), (0, 2), (3, 1), (1, 1, 3), (0, 4), (-9, 3)):
        with pytest.raises(
            ValueError, match=r'out_indices must be ascending blocks of 0\.\.3 and end with the last one'
        ):
            micro(out_indices=wrong)


@pytest.mark.parametrize(
    'name', ['vit_base_patch16_gap_224', 'vit_base_patch16_siglip_224', 'vit_small_patch14_dinov2']
)
def test_other_plain_vits_of_timm(name):
    """No pooling parameters are left over, and the final norm is applied wherever the model keeps it."""
    patch = 14 if 'patch14' in name else 8
    vit = TimmViT(name, img_size=4 * patch, **(MICRO | dict(patch_size=patch)))
    maps = vit(torch.randn(2, 3, 4 * patch, 6 * patch))
    assert [tuple(m.shape) for m in maps] == [(2, 32, 4, 6)] * 4
    torch.testing.assert_close(maps[-1].mean(1), torch.zeros(2, 4, 6), atol=1e-5, rtol=0)
    sum(m.square().sum() for m in maps).backward()
    assert [n for n, p in vit.named_parameters() if p.grad is None] == []


def test_other_input_sizes_resize_the_positions():
    vit = micro().eval()
    assert vit(torch.randn(1, 3, 64, 80))[0].shape == (1, 32, 8, 10)
    told = r'multiples of the patch size \(8, 8\), but got \(50, 32\); model\.data_preprocessor\.size_divisor=8'
    with pytest.raises(ValueError, match=told):
        vit(torch.randn(1, 3, 50, 32))
    with pytest.raises(ValueError, match=r'built for images of \(48, 32\), but got \(32, 48\)'):
        micro(dynamic_img_size=False)(torch.randn(1, 3, 32, 48))
    assert micro(dynamic_img_size=False)(torch.randn(1, 3, 48, 32))[0].shape == (1, 32, 6, 4)


def test_drop_path_grows_over_the_blocks():
    rates = [getattr(block.drop_path1, 'drop_prob', 0.0) for block in micro(drop_path_rate=0.15).vit.blocks]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.15])
    assert TimmViT(**MICRO, img_size=16).vit.blocks[-1].drop_path1.drop_prob == pytest.approx(0.15)


def run_counting_saved_elements(module, x):
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        return module(x), sum(saved)


@pytest.mark.parametrize('drop_path_rate', [0.0, 0.5])
def test_checkpointing_changes_nothing_but_memory(drop_path_rate):
    results = []
    for with_cp in (False, True):
        vit = micro(with_cp=with_cp, drop_path_rate=drop_path_rate).train()
        x = torch.randn(2, 3, 48, 32, generator=torch.Generator().manual_seed(1))
        torch.manual_seed(2)
        maps, saved = run_counting_saved_elements(vit, x)
        sum(m.square().sum() for m in maps).backward()
        results.append(([p.grad for p in vit.parameters()], saved))
    (plain, plain_saved), (checkpointed, checkpointed_saved) = results
    for a, b in zip(plain, checkpointed):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert checkpointed_saved < plain_saved / 3


def test_checkpointing_refuses_the_reentrant_kind(monkeypatch):
    monkeypatch.setattr('mtl_plugins.models.backbones.token_maps.use_reentrant_ckpt', lambda: True)
    with pytest.raises(ValueError, match='needs non-reentrant activation checkpointing'):
        micro(with_cp=True)


def test_init_weights_is_deterministic_and_happens_once():
    states = []
    for construction_seed in (1, 2):
        vit = micro(seed=construction_seed)
        torch.manual_seed(5)
        vit.init_weights()
        states.append({k: v.clone() for k, v in vit.state_dict().items()})
        vit.init_weights()
        assert all(torch.equal(v, states[-1][k]) for k, v in vit.state_dict().items())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_wrong_names_are_explained():
    with pytest.raises(ValueError, match=r"no model named 'vit_tiny_patch16_385'; did you mean one of \['vit_tiny"):
        TimmViT('vit_tiny_patch16_385')
    with pytest.raises(ValueError, match=r"'resnet18' is a FeatureListNet; only plain vision transformers"):
        TimmViT('resnet18')
    with pytest.raises(ValueError, match="'eva02_tiny_patch14_224' is a Eva; only plain vision transformers"):
        TimmViT('eva02_tiny_patch14_224', img_size=28)
    with pytest.raises(ValueError, match=r"cannot build 'vit_tiny_patch16_384' .*unexpected keyword argument 'dim'"):
        TimmViT(dim=32)
