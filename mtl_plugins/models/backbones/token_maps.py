"""What a dense backbone needs of timm's plain vision transformers: their token maps, and the sizes they take."""

from collections.abc import Sequence

from timm.layers import use_reentrant_ckpt
from torch import Tensor, nn

from mtl_plugins.errors import UserError


def token_maps(vit: nn.Module, x: Tensor, blocks: Sequence[int]) -> tuple[Tensor, ...]:
    """Maps ``(N, D, H / patch, W / patch)`` of ``blocks``; the last one, of the last block, is after the final norm.

    Args:
        vit: A ``VisionTransformer`` or an ``Eva`` of timm without a classifier.
        x: Images ``(N, 3, H, W)``.
        blocks: Indices, ascending.
    """
    *lower, last = blocks
    # timm's own "last intermediate" is taken before the final norm, so the last map is made from the final tokens.
    tokens, maps = vit.forward_intermediates(x, indices=lower or [last], norm=False, output_fmt='NCHW')
    final = as_map(vit, pooled_norm(vit, tokens), x.shape[-2:])
    return (*(maps if lower else ()), final)


def as_map(vit: nn.Module, tokens: Tensor, size: Sequence[int]) -> Tensor:
    """Tokens ``(N, prefix + h * w, D)`` of images of ``size`` as a map ``(N, D, h, w)``."""
    rows, columns = vit.patch_embed.dynamic_feat_size(tuple(size))
    patches = tokens[:, vit.num_prefix_tokens :]
    return patches.reshape(tokens.shape[0], rows, columns, -1).permute(0, 3, 1, 2).contiguous()


def pooled_norm(vit: nn.Module, tokens: Tensor) -> Tensor:
    """Average-pooling ViTs keep their only final norm behind the pooling, under another name; this applies it."""
    return vit.fc_norm(tokens) if isinstance(vit.norm, nn.Identity) else tokens


def fix_size(vit: nn.Module, size: Sequence[int]) -> None:
    """Make ``vit`` one for images of ``size``, with the position embedding made for it."""
    vit.set_input_size(img_size=tuple(size))
    if getattr(vit, 'rope', None) is None:  # rotary positions were prepared for a fixed size at construction, or never
        # What timm makes of dynamic_img_size=False; otherwise the forward pass would resize the embedding again.
        vit.dynamic_img_size, vit.patch_embed.flatten = False, True


def use_checkpointing(network: nn.Module, owner: str) -> None:
    """Recompute activations in the backward pass."""
    if use_reentrant_ckpt():
        raise UserError(
            f'{owner}: with_cp=True needs non-reentrant activation checkpointing, but timm is set to the reentrant '
            'kind; unset the environment variable TIMM_REENTRANT_CKPT or call timm.layers.set_reentrant_ckpt(False)'
        )
    network.set_grad_checkpointing(True)


def resolve_blocks(indices: Sequence[int] | None, depth: int, model_name: str, owner: str) -> tuple[int, ...]:
    """Absolute, checked block indices."""
    if indices is None:
        count = min(4, depth)
        return tuple(depth * (i + 1) // count - 1 for i in range(count))
    resolved = tuple(index + depth if index < 0 else index for index in indices)
    if not resolved or resolved[-1] != depth - 1 or list(resolved) != sorted(set(resolved)) or resolved[0] < 0:
        raise UserError(
            f'{owner}: out_indices must be ascending blocks of 0..{depth - 1} and end with the last one '
            f'({depth - 1}) of {model_name!r}, but got {tuple(indices)}; to run fewer blocks set blocks'
        )
    return resolved
