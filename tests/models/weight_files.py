"""Weights as other projects save them, made from random networks of timm."""

import torch

REPEATS = (1, 2, 2, 3, 3, 4, 1)
"""How often each kind of block is there in EfficientNet-B0 and Lite0; the first kind has no expansion."""


def as_efficientnet_pytorch(network):
    """The tensors of a ``tf_efficientnet_lite0`` under the names of EfficientNet-PyTorch, which keeps their order."""
    norm = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
    names = ['_conv_stem.weight', *(f'_bn0.{part}' for part in norm)]
    for block in range(sum(REPEATS)):
        for layer, bn in (('_expand_conv', '_bn0'), ('_depthwise_conv', '_bn1'), ('_project_conv', '_bn2')):
            if block or layer != '_expand_conv':
                names += [f'_blocks.{block}.{layer}.weight', *(f'_blocks.{block}.{bn}.{part}' for part in norm)]
    names += ['_conv_head.weight', *(f'_bn1.{part}' for part in norm), '_fc.weight', '_fc.bias']
    return dict(zip(names, network.state_dict().values(), strict=True))


def as_meta_dinov2(vit, registers):
    """The tensors of timm's DINOv2 under Meta's names; the class token has a position there."""
    state = dict(vit.state_dict())
    dim = vit.embed_dim
    if registers:
        state['register_tokens'] = state.pop('reg_token')
        of_class = torch.full((1, 1, dim), 0.25)
        state['cls_token'] = state['cls_token'] - of_class
        state['pos_embed'] = torch.cat([of_class, state['pos_embed']], dim=1)
    return state | {'mask_token': torch.zeros(1, dim)}


def as_meta_dinov3(vit):
    """The tensors of timm's DINOv3 under Meta's names."""
    state = dict(vit.state_dict())
    state['storage_tokens'] = state.pop('reg_token')
    for index in range(len(vit.blocks)):
        block = f'blocks.{index}'
        for number in (1, 2):
            state[f'{block}.ls{number}.gamma'] = state.pop(f'{block}.gamma_{number}')
        queries, values = (state.pop(f'{block}.attn.{part}_bias', None) for part in 'qv')
        zeros = torch.zeros(vit.embed_dim)
        parts = [zeros if queries is None else queries, torch.ones(vit.embed_dim), zeros if values is None else values]
        state[f'{block}.attn.qkv.bias'] = torch.cat(parts)
        state[f'{block}.attn.qkv.bias_mask'] = torch.ones(3 * vit.embed_dim)
    return state | {'mask_token': torch.zeros(1, vit.embed_dim), 'rope_embed.periods': torch.ones(4)}
