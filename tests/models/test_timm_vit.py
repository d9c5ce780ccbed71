import math
import os

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from mtl_plugins.models import TimmViT
from mtl_plugins.registry import MODELS

MICRO = dict(embed_dim=32, depth=4, num_heads=2, patch_size=8)


def micro(img_size=(48, 32), seed=0, **kwargs):
    torch.manual_seed(seed)
    return TimmViT(img_size=img_size, **(MICRO | dict(drop_path_rate=0.0) | kwargs))


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
# 16 output channels, as the 11 released Taskonomy tasks have together.
TASKONOMY = (
    (256, 256),
    dict(semseg=dict(num_classes=9), depth={}, normals={}, edge_texture={}, principal_curvature={}),
)


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
    with pytest.raises(ValueError, match=r'multiples of the patch size \(8, 8\), but got \(50, 32\); set size_divisor'):
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
    monkeypatch.setattr('mtl_plugins.models.backbones.timm_vit.use_reentrant_ckpt', lambda: True)
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
    with pytest.raises(ValueError, match=r"cannot build 'resnet18' .*img_size.*only plain vision transformers"):
        TimmViT('resnet18')
    with pytest.raises(ValueError, match="'eva02_tiny_patch14_224' is a Eva; only plain vision transformers"):
        TimmViT('eva02_tiny_patch14_224', img_size=28)
    with pytest.raises(ValueError, match=r"cannot build 'vit_tiny_patch16_384' .*unexpected keyword argument 'dim'"):
        TimmViT(dim=32)


# -- pretrained weights ------------------------------------------------------------------------------------------------


def no_hub(*args, **kwargs):
    raise AssertionError('must not be called')


def test_construction_fetches_nothing(monkeypatch):
    monkeypatch.setattr('timm.models._builder.load_pretrained', no_hub)
    monkeypatch.setattr('timm.models._builder.load_custom_pretrained', no_hub)
    micro(pretrained=False).init_weights()
    micro(pretrained=True)
    micro(pretrained='/no/such/file.pth')


@pytest.mark.parametrize('pretrained', [True, '/no/such/file.pth'])
def test_never_runs_without_the_weights_it_was_asked_for(pretrained):
    vit = micro(pretrained=pretrained)
    with pytest.raises(RuntimeError, match=r'the weights are still random. Call init_weights\(\)'):
        vit(torch.randn(1, 3, 48, 32))
    vit.load_state_dict(micro(seed=3).state_dict())  # a checkpoint replaces them
    vit(torch.randn(1, 3, 48, 32))


def test_hub_weights_are_copied_and_its_failures_explained(monkeypatch):
    source, create = micro(seed=7), timm.create_model

    def hub(name, pretrained=False, **kwargs):
        if pretrained:
            assert name == 'vit_tiny_patch16_384'
            return source.vit
        return create(name, pretrained=False, **kwargs)

    monkeypatch.setattr('timm.create_model', hub)
    vit = micro(pretrained=True)
    vit.init_weights()
    assert all(torch.equal(v, vit.state_dict()[k]) for k, v in source.state_dict().items())

    def offline(name, pretrained=False, **kwargs):
        if pretrained:
            raise OSError('no route to host')
        return create(name, pretrained=False, **kwargs)

    monkeypatch.setattr('timm.create_model', offline)
    with pytest.raises(RuntimeError, match=r"'vit_tiny_patch16_384' \(OSError: no route to host\).*pretrained=<path>"):
        micro(pretrained=True).init_weights()


def save(state, path):
    (save_file if path.suffix == '.safetensors' else torch.save)(state, path)
    return str(path)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('prefix', ['', 'backbone.vit.', 'module.backbone.', 'vit.'])
def test_local_state_dicts(tmp_path, suffix, prefix):
    source = micro(seed=1)
    state = {f'{prefix}{name}': value.clone() for name, value in source.vit.state_dict().items()}
    state |= {f'{prefix}head.weight': torch.zeros(10, 32)}  # a classifier, which is left out
    if 'backbone' in prefix:
        state['heads.depth.predictor.conv.weight'] = torch.zeros(1, 128, 1, 1)
    vit = micro(seed=2, pretrained=save(state, tmp_path / f'weights{suffix}'))
    vit.init_weights()
    assert all(torch.equal(v, vit.state_dict()[k]) for k, v in source.state_dict().items())


@pytest.mark.parametrize('container', ['state_dict', 'model'])
def test_nested_state_dicts(tmp_path, container):
    source = micro(seed=1)
    content = {container: source.vit.state_dict(), 'epoch': 3, 'note': 'plain values are fine'}
    vit = micro(seed=2, pretrained=save(content, tmp_path / 'weights.pth'))
    vit.init_weights()
    assert all(torch.equal(v, vit.state_dict()[k]) for k, v in source.state_dict().items())


@pytest.mark.parametrize(('old', 'given'), [((40, 40), None), ((24, 72), (3, 9)), ((48, 32), None)])
def test_positions_of_another_grid_are_resized(tmp_path, old, given):
    source = micro(old, seed=1)
    path = save(source.vit.state_dict(), tmp_path / 'weights.pth')
    vit = micro((48, 32), seed=2, pretrained=path, pretrained_grid=given)
    vit.init_weights()
    grid = [side // 8 for side in old]
    expected = resample_abs_pos_embed(source.vit.pos_embed, [6, 4], grid, num_prefix_tokens=1)
    torch.testing.assert_close(vit.vit.pos_embed, expected, rtol=0, atol=0)
    assert torch.equal(vit.vit.blocks[3].mlp.fc2.weight, source.vit.blocks[3].mlp.fc2.weight)


def test_a_grid_that_cannot_be_guessed_is_asked_for(tmp_path):
    path = save(micro((24, 72)).vit.state_dict(), tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=r'has 27 positions, which are no 6 x 4 grid; give .* pretrained_grid'):
        micro(pretrained=path).init_weights()
    with pytest.raises(ValueError, match=r'has 27 positions, which are no 5 x 5 grid'):
        micro(pretrained=path, pretrained_grid=(5, 5)).init_weights()


def jax_archive(vit, grid):
    """The arrays of an original JAX file, made from a timm model by the inverse of the naming."""
    dim, heads = vit.embed_dim, vit.blocks[0].attn.num_heads
    head_dim = dim // heads
    state = {k: v.detach().numpy() for k, v in vit.state_dict().items()}
    arrays = {
        'embedding/kernel': state['patch_embed.proj.weight'].transpose(2, 3, 1, 0),
        'embedding/bias': state['patch_embed.proj.bias'],
        'cls': state['cls_token'],
        'Transformer/posembed_input/pos_embedding': state['pos_embed'],
        'Transformer/encoder_norm/scale': state['norm.weight'],
        'Transformer/encoder_norm/bias': state['norm.bias'],
    }
    assert state['pos_embed'].shape[1] == math.prod(grid) + 1
    for i in range(len(vit.blocks)):
        new, old = f'Transformer/encoderblock_{i}', f'blocks.{i}'
        for ours, theirs in (('norm1', 'LayerNorm_0'), ('norm2', 'LayerNorm_2')):
            arrays[f'{new}/{theirs}/scale'] = state[f'{old}.{ours}.weight']
            arrays[f'{new}/{theirs}/bias'] = state[f'{old}.{ours}.bias']
        attention = f'{new}/MultiHeadDotProductAttention_1'
        for part, name in enumerate(('query', 'key', 'value')):
            rows = slice(part * dim, (part + 1) * dim)
            arrays[f'{attention}/{name}/kernel'] = state[f'{old}.attn.qkv.weight'][rows].T.reshape(dim, heads, head_dim)
            arrays[f'{attention}/{name}/bias'] = state[f'{old}.attn.qkv.bias'][rows].reshape(heads, head_dim)
        arrays[f'{attention}/out/kernel'] = state[f'{old}.attn.proj.weight'].T.reshape(heads, head_dim, dim)
        arrays[f'{attention}/out/bias'] = state[f'{old}.attn.proj.bias']
        for j in (0, 1):
            arrays[f'{new}/MlpBlock_3/Dense_{j}/kernel'] = state[f'{old}.mlp.fc{j + 1}.weight'].T
            arrays[f'{new}/MlpBlock_3/Dense_{j}/bias'] = state[f'{old}.mlp.fc{j + 1}.bias']
    return arrays


def test_original_jax_files(tmp_path):
    source = micro((40, 40), seed=1)
    np.savez(tmp_path / 'weights.npz', **jax_archive(source.vit, (5, 5)))
    same = micro((40, 40), seed=2, pretrained=str(tmp_path / 'weights.npz'))
    same.init_weights()
    for name, value in source.state_dict().items():
        torch.testing.assert_close(same.state_dict()[name], value, rtol=0, atol=0)
    other = micro((48, 32), seed=2, pretrained=str(tmp_path / 'weights.npz'))
    other.init_weights()
    expected = resample_abs_pos_embed(source.vit.pos_embed, [6, 4], [5, 5], num_prefix_tokens=1)
    assert other.vit.pos_embed.shape == expected.shape
    assert (other.vit.pos_embed - expected).abs().max() < 0.05  # timm interpolates these files without antialiasing
    with pytest.raises(ValueError, match='it has 4 blocks, the model 3'):
        micro((40, 40), depth=3, pretrained=str(tmp_path / 'weights.npz')).init_weights()
    with pytest.raises(ValueError, match='does not hold the weights of this model'):
        micro((40, 40), embed_dim=48, pretrained=str(tmp_path / 'weights.npz')).init_weights()


class Trap:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_files_that_cannot_be_used_are_explained(tmp_path):
    ways = r'Ways on: pretrained=<path> of a local file.*pretrained=False for random weights'
    with pytest.raises(FileNotFoundError, match=rf"pretrained='.*missing.pth' is not a file. {ways}"):
        micro(pretrained=str(tmp_path / 'missing.pth')).init_weights()
    (tmp_path / 'weights.onnx').write_bytes(b'x')
    with pytest.raises(ValueError, match=r'must end with one of .*\.npz'):
        micro(pretrained=str(tmp_path / 'weights.onnx')).init_weights()
    for suffix in ('.pth', '.safetensors', '.npz'):
        (tmp_path / f'damaged{suffix}').write_bytes(b'not a file of this kind at all')
        with pytest.raises(ValueError, match=rf"pretrained='.*damaged\{suffix}'.*{ways}"):
            micro(pretrained=str(tmp_path / f'damaged{suffix}')).init_weights()
    with pytest.raises(ValueError, match='holds no state dict, but a list'):
        micro(pretrained=save([torch.zeros(1)], tmp_path / 'list.pth')).init_weights()
    trap = tmp_path / 'executed'
    with pytest.raises(ValueError, match='is not loaded, because unpickling it could run code'):
        micro(pretrained=save({'state_dict': {}, 'trap': Trap(str(trap))}, tmp_path / 'trap.pth')).init_weights()
    assert not trap.exists()


def test_weights_of_another_model_are_refused(tmp_path):
    path = save(micro().vit.state_dict(), tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=r'not in the model: blocks.2.*and \d+ more'):
        micro(depth=2, pretrained=path).init_weights()
    with pytest.raises(ValueError, match=r'missing: blocks.4'):
        micro(depth=5, out_indices=(4,), pretrained=path).init_weights()
    with pytest.raises(ValueError, match=r'of another shape: .* instead of .*Check model_name, embed_dim'):
        micro(embed_dim=48, pretrained=path).init_weights()
    with pytest.raises(ValueError, match=r'of another shape: patch_embed.proj.weight'):
        micro((96, 64), patch_size=16, pretrained=path).init_weights()
