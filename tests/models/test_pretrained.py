import math
import os

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from .micro_vit import micro


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
