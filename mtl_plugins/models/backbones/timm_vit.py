"""Plain vision transformers of timm as dense backbones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import timm
from mmengine.model import BaseModule, PretrainedInit, initialize
from timm.layers import use_reentrant_ckpt
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mtl_plugins.errors import UserError, UserRuntimeError
from mtl_plugins.registry import MODELS

from .pretrained import load_local_weights, load_timm_weights

_OTHER_MODELS = "only plain vision transformers are supported; for other models of timm use type='mmseg.TIMMBackbone'"


@MODELS.register_module()
class TimmViT(BaseModule):
    """A timm ViT that returns the token maps of several blocks.

    The maps of all but the last entry of ``out_indices`` are raw block outputs, the last one comes after the final
    norm; class and register tokens are dropped. This is the backbone of the released STGU program for
    ``vit_tiny_patch16_384`` (which has timm's ViT at 1/16 resolution, blocks 3, 6, 9, 12 counted from 1).

    Nothing is downloaded and no file is read at construction. As everywhere in MMEngine, pretrained weights come with
    ``init_weights()``, which the Runner calls before training and which a run that loads a checkpoint does not need.
    A backbone that still waits for them refuses to run, so it can never train from random weights unnoticed.

    Args:
        model_name: Name of a timm ViT, for example ``'vit_base_patch16_384'``.
        img_size: Height and width that the position embedding is made for, or one number for a square.
        out_indices: Blocks to return, ascending, counted from 0; the last one must be the last block. Negative numbers
            count from the end. None for four at equal distances: (2, 5, 8, 11) of 12 blocks, (5, 11, 17, 23) of 24.
        pretrained: False for random weights (works offline), True for timm's weights of ``model_name`` through its hub,
            or the path of a local ``.npz`` (original JAX file), ``.safetensors``, ``.pth`` or ``.pt`` file. Position
            embeddings of another grid are resized. Files are loaded without executing code.
        pretrained_grid: Rows and columns of the position embedding in the local file; None for a square one, or the
            model's own if the number of positions is no square.
        drop_path_rate: Stochastic depth of the last block; grows linearly from 0 over the blocks.
        with_cp: Recompute activations in the backward pass (non-reentrant activation checkpointing) to save memory.
        dynamic_img_size: Accept inputs of other sizes than ``img_size`` by resizing the position embedding; each side
            must be a multiple of the patch size.
        init_cfg: See :class:`mmengine.model.BaseModule`; it has the last word. ``dict(type='Pretrained',
            checkpoint=...)`` is another way to name the file of ``pretrained``.
        **timm_kwargs: Further arguments of the timm model: ``embed_dim``, ``depth``, ``num_heads``, ``patch_size``, ...

    Raises:
        ValueError: If ``model_name`` is not a ViT of timm, or ``out_indices`` or ``timm_kwargs`` do not fit it.
    """

    def __init__(
        self,
        model_name: str = 'vit_tiny_patch16_384',
        img_size: int | Sequence[int] = 384,
        out_indices: Sequence[int] | None = None,
        pretrained: bool | str = False,
        pretrained_grid: Sequence[int] | None = None,
        drop_path_rate: float = 0.15,
        with_cp: bool = False,
        dynamic_img_size: bool = True,
        init_cfg: dict | list[dict] | None = None,
        **timm_kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        self.model_name = model_name
        self.pretrained = pretrained
        self.pretrained_grid = None if pretrained_grid is None else tuple(pretrained_grid)
        entries = [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg or ())
        self._loaded_init = [entry for entry in entries if entry.get('type') in ('Pretrained', PretrainedInit)]
        self._drawn_init = [entry for entry in entries if entry not in self._loaded_init]
        if len(self._loaded_init) + bool(pretrained) > 1:
            raise UserError(
                f'TimmViT: weights are to come from pretrained={pretrained!r} and from init_cfg={init_cfg}; leave one'
            )
        self._awaits_weights = bool(pretrained or self._loaded_init)
        self._timm_kwargs = dict(
            timm_kwargs,
            img_size=img_size if isinstance(img_size, int) else tuple(img_size),
            drop_path_rate=drop_path_rate,
            dynamic_img_size=dynamic_img_size,
        )
        self.vit = self._build_vit(pretrained=False)
        self.out_indices = _resolve_indices(out_indices, len(self.vit.blocks), model_name)
        if with_cp:
            self._use_checkpointing()

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of each returned map."""
        return (self.vit.embed_dim,) * len(self.out_indices)

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of the token map for inputs of ``img_size``."""
        return tuple(self.vit.patch_embed.grid_size)

    @property
    def size_divisor(self) -> tuple[int, int]:
        """Height and width of a patch: the sides of every image must be multiples of them."""
        return tuple(self.vit.patch_embed.patch_size)

    def fix_size(self, size: Sequence[int]) -> None:
        """Turn into a backbone for images of one size, with the position embedding made for it; for export.

        Args:
            size: Height and width, multiples of the patch size.
        """
        self.vit.set_input_size(img_size=tuple(size))
        # What timm makes of dynamic_img_size=False; otherwise the forward pass would resize the embedding again.
        self.vit.dynamic_img_size, self.vit.patch_embed.flatten = False, True

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the token maps of ``out_indices``.

        Args:
            x: Images ``(N, 3, H, W)``.

        Returns:
            One map ``(N, embed_dim, H / patch, W / patch)`` per entry of ``out_indices``.

        Raises:
            ValueError: If the size of the images does not suit the patches or, without ``dynamic_img_size``, the
                model.
            RuntimeError: If pretrained weights were asked for, but neither ``init_weights()`` nor a checkpoint came.
        """
        if self._awaits_weights:
            raise UserRuntimeError(
                f'TimmViT: {self._wanted()} was asked for, but the weights are still random. Call '
                'init_weights() on the model (the Runner does), load a checkpoint, or set pretrained=False'
            )
        self._check_size(x)
        *lower, last = self.out_indices
        # timm's own "last intermediate" is taken before the final norm, so the last map is made from the final tokens.
        tokens, maps = self.vit.forward_intermediates(x, indices=lower or [last], norm=False, output_fmt='NCHW')
        patches = self._norm_of_maps(tokens)[:, self.vit.num_prefix_tokens :]
        rows, columns = self.vit.patch_embed.dynamic_feat_size(x.shape[-2:])
        final = patches.reshape(x.shape[0], rows, columns, -1).permute(0, 3, 1, 2).contiguous()
        return (*(maps if lower else ()), final)

    def init_weights(self) -> None:
        """Draw random weights, or load the pretrained ones; only the first call has an effect.

        Raises:
            FileNotFoundError: If ``pretrained`` or ``init_cfg`` names a file that is not there.
            ValueError: If the file does not hold weights of this model.
            RuntimeError: If timm's hub cannot deliver the weights.
        """
        if self.is_init:
            return
        if self.pretrained is True:
            load_timm_weights(self.vit, self.model_name, lambda: self._build_vit(pretrained=True))
        elif self.pretrained:
            load_local_weights(self.vit, self.pretrained, self.pretrained_grid)
        else:
            self.vit.init_weights()
        if self._drawn_init:
            initialize(self, self._drawn_init)
        for entry in self._loaded_init:
            load_local_weights(
                self.vit,
                entry['checkpoint'],
                self.pretrained_grid,
                'init_cfg.checkpoint',
                entry.get('prefix') or '',
            )
        self._awaits_weights = False
        self.is_init = True

    def _wanted(self) -> str:
        return f'init_cfg={self.init_cfg}' if self._loaded_init else f'pretrained={self.pretrained!r}'

    def _build_vit(self, pretrained: bool) -> VisionTransformer:
        if not timm.is_model(self.model_name):
            near = timm.list_models(f'{self.model_name.split("_patch")[0]}*')[:3]
            hint = f'; did you mean one of {near}?' if near else "; timm.list_models('vit*') lists the names"
            raise UserError(f'TimmViT: timm has no model named {self.model_name!r}{hint}')
        try:
            vit = timm.create_model(self.model_name, pretrained=pretrained, num_classes=0, **self._timm_kwargs)
        except TypeError as error:
            raise UserError(
                f'TimmViT: timm cannot build {self.model_name!r} with {self._timm_kwargs} ({error}); {_OTHER_MODELS}'
            ) from error
        if not isinstance(vit, VisionTransformer):
            raise UserError(f'TimmViT: {self.model_name!r} is a {type(vit).__name__}; {_OTHER_MODELS}')
        vit.reset_classifier(0, global_pool='')  # drops an attention pool, whose parameters would never get a gradient
        return vit

    def _norm_of_maps(self, tokens: Tensor) -> Tensor:
        # Average-pooling ViTs keep their only final norm behind the pooling, under another name.
        return self.vit.fc_norm(tokens) if isinstance(self.vit.norm, nn.Identity) else tokens

    def _use_checkpointing(self) -> None:
        if use_reentrant_ckpt():
            raise UserError(
                'TimmViT: with_cp=True needs non-reentrant activation checkpointing, but timm is set to the reentrant '
                'kind; unset the environment variable TIMM_REENTRANT_CKPT or call timm.layers.set_reentrant_ckpt(False)'
            )
        self.vit.set_grad_checkpointing(True)

    def _check_size(self, x: Tensor) -> None:
        size = tuple(x.shape[-2:])
        if not self.vit.dynamic_img_size:
            if size != tuple(self.vit.patch_embed.img_size):
                raise UserError(
                    f'TimmViT: built for images of {tuple(self.vit.patch_embed.img_size)}, but got {size}; set '
                    'img_size accordingly or dynamic_img_size=True'
                )
        elif any(side % patch for side, patch in zip(size, self.vit.patch_embed.patch_size)):
            raise UserError(
                f'TimmViT: image height and width must be multiples of the patch size '
                f'{tuple(self.vit.patch_embed.patch_size)}, but got {size}; '
                f'model.data_preprocessor.size_divisor={math.lcm(*self.vit.patch_embed.patch_size)} pads them'
            )

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any) -> None:
        # A checkpoint of the whole model replaces the pretrained weights that init_weights would fetch.
        if any(key.startswith(f'{prefix}vit.') for key in state_dict):
            self._awaits_weights = False
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _resolve_indices(indices: Sequence[int] | None, depth: int, model_name: str) -> tuple[int, ...]:
    """Absolute, checked block indices."""
    if indices is None:
        count = min(4, depth)
        return tuple(depth * (i + 1) // count - 1 for i in range(count))
    resolved = tuple(index + depth if index < 0 else index for index in indices)
    if not resolved or resolved[-1] != depth - 1 or list(resolved) != sorted(set(resolved)) or resolved[0] < 0:
        raise UserError(
            f'TimmViT: out_indices must be ascending blocks of 0..{depth - 1} and end with the last one '
            f'({depth - 1}) of {model_name!r}, but got {tuple(indices)}; to run fewer blocks set depth'
        )
    return resolved
