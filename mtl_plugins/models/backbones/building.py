"""Building networks of timm: a plain transformer, or the features of any other network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

import timm
import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from mtl_plugins.errors import UserError


@dataclass(frozen=True)
class NetworkBuilder:
    """Builds a network of timm, with random weights.

    Args:
        model_name: Name of the network in timm.
        owner: Name of the backbone's class, for messages.
        blocks: How many of the first blocks of a transformer to build; None for all.

    Raises:
        ValueError: If timm has no such network, or an argument does not fit it; so do all methods.
    """

    model_name: str
    owner: str
    blocks: int | None = None

    def __post_init__(self) -> None:
        if not timm.is_model(self.model_name):
            near = timm.list_models(f'{self.model_name.split("_patch")[0]}*')[:3]
            hint = f'; did you mean one of {near}?' if near else "; timm.list_models('vit*') lists the names"
            raise UserError(f'{self.owner}: timm has no model named {self.model_name!r}{hint}')
        if self.blocks is None:
            return
        if not self.is_transformer:
            raise UserError(
                f'{self.owner}: blocks is for plain transformers; {self.model_name!r} is cut by out_indices'
            )

    @cached_property
    def is_transformer(self) -> bool:
        """Whether timm's network of this name is a plain transformer."""
        kind = get_type_hints(timm.model_entrypoint(self.model_name)).get('return')
        return isinstance(kind, type) and issubclass(kind, (VisionTransformer, Eva))

    def transformer(self, settings: Mapping[str, Any]) -> nn.Module:
        """The first ``blocks`` of a transformer, without its classifier."""
        cut = {} if self.blocks is None else dict(depth=self.blocks)
        return _without_pool(self._create(num_classes=0, **{**settings, **cut}))

    def features(self, settings: Mapping[str, Any], out_indices: Sequence[int] | None) -> nn.Module:
        """Timm's extractor of maps: of all levels of resolution, or of those in ``out_indices``."""
        chosen = {} if out_indices is None else dict(out_indices=tuple(out_indices))
        try:
            return self._create(features_only=True, **chosen, **settings)
        except (AssertionError, IndexError) as error:
            raise UserError(
                f'{self.owner}: out_indices={out_indices} does not fit {self.model_name!r} ({error}); its levels are '
                f'{list(range(len(self._create(features_only=True, **settings).feature_info.info)))}'
            ) from error

    def whole(self, settings: Mapping[str, Any], pretrained: bool = False) -> nn.Module:
        """The network as timm has it: all blocks, and a classifier if it is no transformer."""
        classes = dict(num_classes=0) if self.is_transformer else {}
        with torch.random.fork_rng(devices=[]):
            network = timm.create_model(self.model_name, pretrained=pretrained, **classes, **settings)
        return _without_pool(network) if self.is_transformer else network

    def _create(self, **settings: Any) -> nn.Module:
        try:
            return timm.create_model(self.model_name, pretrained=False, **settings)
        except (TypeError, AttributeError, RuntimeError) as error:
            raise UserError(f'{self.owner}: timm cannot build {self.model_name!r} with {settings} ({error})') from error


def _without_pool(vit: nn.Module) -> nn.Module:
    """Drop an attention pool, whose parameters would never get a gradient."""
    vit.reset_classifier(0, global_pool='')
    return vit
