"""Networks of timm as dense backbones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.model import BaseModule, PretrainedInit, initialize
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from mtl_plugins.errors import UserError, UserRuntimeError
from mtl_plugins.registry import MODELS
from mtl_plugins.utils.argument_types import Checked, Count

from .adapters import Adapters, LowRank
from .building import NetworkBuilder
from .freezing import behind_maps, freeze, hold_frozen
from .pretrained import Target, load_local_weights, load_timm_weights
from .token_maps import fix_size, resolve_blocks, token_maps, use_checkpointing

DROP_PATH_OF_VITS = 0.15
"""What the released STGU program trains its ViTs with."""


@MODELS.register_module()
class TimmBackbone(Checked, BaseModule):
    """A network of timm that returns maps: a plain vision transformer, or whatever timm has ``features_only`` for.

    Of a transformer (``vit_*``, ``deit*``, DINOv2, DINOv3, EVA) come the maps of several blocks, all at one resolution:
    raw block outputs, the last one after the final norm; class and register tokens are dropped. Of any other network
    (ResNet, EfficientNet, ConvNeXt, Swin, ...) come its maps at several resolutions, each behind a layer normalisation
    of its own, so that heads find values of the same size in all of them.

    Nothing is downloaded and no file is read at construction. As everywhere in MMEngine, pretrained weights come with
    ``init_weights()``, which the Runner calls before training and which a run that loads a checkpoint does not need.
    A backbone that still waits for them refuses to run, so it can never train from random weights unnoticed; nor does
    one that is frozen.

    Args:
        model_name: Name of a network of timm, for example ``'vit_small_patch14_dinov2.lvd142m'`` or ``'resnet50'``.
        img_size: Height and width that a position embedding is made for, or one number for a square; None for 384 for a
            transformer. Other networks take it if they are made for one size (Swin, ...).
        out_indices: Which maps to return, ascending. Of a transformer: blocks, counted from 0, the last one being the
            last block; negative numbers count from the end; None for four at equal distances. Of others: timm's levels
            of resolution; None for all.
        pretrained: False for random weights (works offline), True for timm's weights of ``model_name`` through its hub,
            or a local ``.npz`` (original JAX file), ``.safetensors``, ``.pth`` or ``.pt`` file, also one that an
            installed package brings, ``'package://NAME/PATH'``. Names may be those of timm, of Meta's DINOv2 and
            DINOv3, of torchvision's ResNets or of EfficientNet-PyTorch. Classifiers are left out, position embeddings
            of another grid resized; everything else must fit. Files are loaded without executing code.
        pretrained_grid: Rows and columns of the position embedding in the local file; None for a square one, or the
            model's own if the number of positions is no square.
        blocks: Build only the first blocks of a transformer, and take only those from the weights. (``depth`` builds
            as many, and wants weights of exactly that depth.)
        norm_maps: A layer normalisation behind each map; None for no for a transformer, as in the released STGU
            program, and yes for others.
        frozen: True to leave all weights as they are; a number n to do so with all that the first n maps are made of.
            What is frozen runs in evaluation mode: no dropout, statistics of batch normalisation as they are. Adapters
            and ``norm_maps`` stay trainable.
        adapters: Low-rank additions to the linear layers of the blocks of a transformer, see
            :class:`~mtl_plugins.models.backbones.adapters.Adapters`: ``dict(rank=4, task_rank=4)``. With ``task_rank``
            the output is a dict with the maps of each task.
        drop_path_rate: Stochastic depth of the last block; grows linearly from 0 over the blocks. None for 0.15 for a
            transformer, and timm's default for others.
        with_cp: Recompute activations in the backward pass (non-reentrant activation checkpointing) to save memory.
        dynamic_img_size: A transformer accepts inputs of other sizes than ``img_size`` by resizing the position
            embedding; each side must be a multiple of the patch size.
        init_cfg: See :class:`mmengine.model.BaseModule`; it has the last word. ``dict(type='Pretrained',
            checkpoint=...)`` is another way to name the file of ``pretrained``.
        **timm_kwargs: Further arguments of the timm model: ``embed_dim``, ``depth``, ``num_heads``, ``patch_size``, ...

    Raises:
        ValueError: If timm has no such network, or an argument does not fit it.
    """

    checks_init_files = True
    """See :func:`mtl_plugins.utils.init_files.init_files_fit`."""

    def __init__(
        self,
        model_name: str,
        img_size: int | Sequence[int] | None = None,
        out_indices: Sequence[int] | None = None,
        pretrained: bool | str | Path = False,
        pretrained_grid: Sequence[int] | None = None,
        blocks: Count | None = None,
        norm_maps: bool | None = None,
        frozen: Any = False,
        adapters: dict[str, Any] | None = None,
        drop_path_rate: float | None = None,
        with_cp: bool = False,
        dynamic_img_size: bool = True,
        init_cfg: dict | list[dict] | None = None,
        **timm_kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        self.model_name = model_name
        self.pretrained = pretrained
        self.pretrained_grid = None if pretrained_grid is None else tuple(pretrained_grid)
        self.frozen = frozen
        self._split_init_cfg()
        builder = NetworkBuilder(model_name, self._name, blocks)
        self.is_transformer, self.blocks = builder.is_transformer, blocks
        if self.is_transformer:
            img_size = 384 if img_size is None else img_size
            drop_path_rate = DROP_PATH_OF_VITS if drop_path_rate is None else drop_path_rate
            timm_kwargs['dynamic_img_size'] = dynamic_img_size
        if img_size is not None:
            timm_kwargs['img_size'] = img_size if isinstance(img_size, int) else tuple(img_size)
        if drop_path_rate is not None:
            timm_kwargs['drop_path_rate'] = drop_path_rate
        self._img_size = timm_kwargs.get('img_size')
        self._build_whole = partial(builder.whole, timm_kwargs)
        network = (
            builder.transformer(timm_kwargs) if self.is_transformer else builder.features(timm_kwargs, out_indices)
        )
        self._part = 'vit' if self.is_transformer else 'net'
        self.add_module(self._part, network)
        self.out_indices = (
            resolve_blocks(out_indices, len(network.blocks), model_name, self._name)
            if self.is_transformer
            else tuple(network.feature_info.out_indices)
        )
        if with_cp:
            use_checkpointing(network, self._name)
        self.out_channels = (
            (network.embed_dim,) * len(self.out_indices)
            if self.is_transformer
            else tuple(network.feature_info.channels())
        )
        self.map_norms = self.adapters = None
        self._awaits_weights = False
        if out_indices is not None and not self.is_transformer:  # stages behind the last map would never learn
            used = set(map(id, behind_maps(self, len(self.out_indices))))
            freeze(parameter for parameter in network.parameters() if id(parameter) not in used)
        self._freeze(frozen)
        if not self.is_transformer if norm_maps is None else norm_maps:
            self.map_norms = nn.ModuleList(map(LayerNorm2d, self.out_channels))
        if adapters is not None:
            self.adapters = self._adapt(adapters, with_cp)
        # A frozen network never learns, so it needs weights as much as one that asked for them.
        self._awaits_weights = bool(pretrained or self._loaded_init or (frozen is not False and not self._drawn_init))

    @property
    def network(self) -> nn.Module:
        """The network of timm."""
        return self.get_submodule(self._part)

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of the token map of a transformer for inputs of ``img_size``."""
        return tuple(self.network.patch_embed.grid_size)

    @property
    def size_divisor(self) -> tuple[int, int]:
        """What the sides of an image should be multiples of: the patch, or the coarsest map's part of the image.

        A transformer refuses other sizes; maps of another network would cover a little more than the image.
        """
        if self.is_transformer:
            return tuple(self.network.patch_embed.feat_ratio(as_scalar=False))
        return (max(self.network.feature_info.reduction()),) * 2

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """The only size of images that the network takes, None if it takes others."""
        if self.is_transformer:
            return None if self.network.dynamic_img_size else tuple(self.network.patch_embed.img_size)
        known = getattr(self.network, 'pretrained_cfg', {})
        if not known.get('fixed_input_size') and self._img_size is None:
            return None
        size = known.get('input_size', ())[-2:] if self._img_size is None else self._img_size
        return (size, size) if isinstance(size, int) else tuple(size)

    def fix_size(self, size: Sequence[int]) -> None:
        """Turn into a backbone for images of one size, with the position embedding made for it; for export.

        Args:
            size: Height and width, multiples of ``size_divisor``.
        """
        if self.is_transformer:
            fix_size(self.network, size)

    def check_size(self, size: Sequence[int]) -> None:
        """Refuse images of a size that the network cannot take.

        Raises:
            ValueError: If a side is no multiple of the patch, or a network for one size is given another.
        """
        size, fixed = tuple(size), self.fixed_size
        if fixed is not None and size != fixed:
            hint = ' or dynamic_img_size=True' if self.is_transformer else ''
            raise UserError(
                f'{self._name}: built for images of {fixed}, but got {size}; set img_size accordingly{hint}'
            )
        if self.is_transformer and any(side % step for side, step in zip(size, self.size_divisor)):
            raise UserError(
                f'{self._name}: image height and width must be multiples of the patch size {self.size_divisor}, but '
                f'got {size}; model.data_preprocessor.size_divisor={math.lcm(*self.size_divisor)} pads them'
            )

    def set_active_tasks(self, tasks: frozenset[str] | None) -> None:
        """Tasks whose losses will get a gradient, None for all; the segmentor says so."""
        if self.adapters is not None:
            self.adapters.active = tasks

    def forward(self, x: Tensor) -> tuple[Tensor, ...] | dict[str, tuple[Tensor, ...]]:
        """Return the maps of ``out_indices``.

        Args:
            x: Images ``(N, 3, H, W)``.

        Returns:
            One map ``(N, C_i, h_i, w_i)`` per entry of ``out_indices``; with adapters of the tasks such a tuple for
            every task.

        Raises:
            ValueError: If the size of the images does not suit the patches or, without ``dynamic_img_size``, the
                model.
            RuntimeError: If pretrained weights were asked for, but neither ``init_weights()`` nor a checkpoint came.
        """
        if self._awaits_weights:
            raise UserRuntimeError(
                f'{self._name}: {self._wanted()} was asked for, but the weights are still random. Call '
                f'init_weights() on the model (the Runner does), load a checkpoint, or set {self._wanted_not()}'
            )
        self.check_size(x.shape[-2:])
        if self.is_transformer and getattr(self.network, '_compiled_call_impl', None) is not None:
            raise UserError(
                f'{self._name}: {self._part}.compile() changes nothing, since its blocks are called one by one; '
                f'compile the whole backbone, or each of {self._part}.blocks (mtl_plugins.CompileHook does)'
            )
        if not self.is_transformer:
            return self._normed(_channels_first(self.network, self.network(x)))
        if self.adapters is None or not self.adapters.tasks:
            return self._normed(token_maps(self.network, x, self.out_indices))
        return {task: self._normed(maps) for task, maps in self.adapters.task_maps(self.network, x, self.out_indices)}

    def train(self, mode: bool = True) -> TimmBackbone:
        """Set the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        if mode and self.frozen is not False:
            hold_frozen(self.network)
        return self

    def init_weights(self) -> None:
        """Draw random weights, or load the pretrained ones; only the first call has an effect.

        Raises:
            FileNotFoundError: If ``pretrained`` or ``init_cfg`` names a file that is not there.
            ValueError: If the file does not hold weights of this model.
            RuntimeError: If timm's hub cannot deliver the weights.
        """
        if self.is_init:
            return
        target = Target(self.network, self._name, self.model_name, self._build_whole, self.pretrained_grid, self.blocks)
        if self.pretrained is True:
            load_timm_weights(target)
        elif self.pretrained:
            load_local_weights(target, self.pretrained)
        elif self.is_transformer:
            self.network.init_weights()
        for module in self.network.modules():
            if isinstance(module, LowRank):
                module.reset_parameters()
        if self._drawn_init:
            initialize(self, self._drawn_init)
        for entry in self._loaded_init:
            load_local_weights(target, entry['checkpoint'], 'init_cfg.checkpoint', entry.get('prefix') or '')
        if self.pretrained or self.init_cfg:
            self._awaits_weights = False
        self.is_init = True

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _split_init_cfg(self) -> None:
        entries = [self.init_cfg] if isinstance(self.init_cfg, dict) else list(self.init_cfg or ())
        self._loaded_init = [entry for entry in entries if entry.get('type') in ('Pretrained', PretrainedInit)]
        self._drawn_init = [entry for entry in entries if entry not in self._loaded_init]
        if len(self._loaded_init) + bool(self.pretrained) > 1:
            raise UserError(
                f'{self._name}: weights are to come from pretrained={self.pretrained!r} and from '
                f'init_cfg={self.init_cfg}; leave one'
            )

    def _wanted(self) -> str:
        if self._loaded_init:
            return f'init_cfg={self.init_cfg}'
        return f'pretrained={self.pretrained!r}' if self.pretrained else f'frozen={self.frozen!r}'

    def _wanted_not(self) -> str:
        return 'pretrained=False' if self.pretrained or self._loaded_init else 'pretrained, or frozen=False'

    def _freeze(self, frozen: bool | int) -> None:
        count = len(self.out_indices)
        if not isinstance(frozen, int) or not (isinstance(frozen, bool) or 1 <= frozen <= count):
            raise UserError(
                f'{self._name}: frozen must be True, False or the number of maps, 1 to {count}, but got {frozen!r}'
            )
        if frozen is True:
            freeze(self.network.parameters())
        elif frozen is not False:
            freeze(behind_maps(self, frozen))

    def _adapt(self, settings: dict[str, Any], with_cp: bool) -> Adapters:
        if not self.is_transformer:
            raise UserError(f'{self._name}: adapters are for plain transformers, but {self.model_name!r} is none')
        if with_cp:
            raise UserError(f'{self._name}: adapters and with_cp=True do not go together; leave one')
        return Adapters(self.network.blocks, self.out_indices, **settings)

    def _normed(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(maps) if self.map_norms is None else tuple(norm(m) for norm, m in zip(self.map_norms, maps))

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any) -> None:
        # A checkpoint of the whole model replaces the pretrained weights that init_weights would fetch.
        if any(key.startswith(f'{prefix}{self._part}.') for key in state_dict):
            self._awaits_weights = False
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _channels_first(network: nn.Module, maps: Sequence[Tensor]) -> list[Tensor]:
    last = str(getattr(network, 'output_fmt', 'NCHW')).endswith('NHWC')
    return [m.permute(0, 3, 1, 2).contiguous() if last else m for m in maps]
