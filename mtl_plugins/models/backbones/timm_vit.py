"""Plain vision transformers of timm, with the defaults of the released STGU program."""

from typing import Any

from timm.models.vision_transformer import VisionTransformer

from mtl_plugins.errors import UserError
from mtl_plugins.registry import MODELS

from .timm_backbone import TimmBackbone

_OTHER_MODELS = "only plain vision transformers are supported; for other models of timm use type='TimmBackbone'"


@MODELS.register_module()
class TimmViT(TimmBackbone):
    """A :class:`~mtl_plugins.models.TimmBackbone` for ViTs alone: the backbone of the released STGU program.

    That is ``vit_tiny_patch16_384``: timm's ViT at 1/16 resolution, blocks 3, 6, 9, 12 counted from 1.

    Args:
        model_name: Name of a timm ViT.
        **settings: See :class:`~mtl_plugins.models.TimmBackbone`.

    Raises:
        ValueError: If ``model_name`` is not a ViT of timm, or an argument does not fit it.
    """

    def __init__(self, model_name: str = 'vit_tiny_patch16_384', **settings: Any) -> None:
        super().__init__(model_name, **settings)
        if not isinstance(self.network, VisionTransformer):
            raise UserError(f'TimmViT: {model_name!r} is a {type(self.network).__name__}; {_OTHER_MODELS}')
