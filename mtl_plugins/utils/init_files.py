"""Files that parts of a model are to begin with (``init_cfg=dict(type='Pretrained', ...)``): they fit, or are an error.

MMEngine loads such a file with ``strict=False`` and goes on with random weights where it does not fit. Here the loads
are watched through torch's own hooks, so that a part may convert the names in the file before it loads them.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from torch import nn

from mtl_plugins.errors import UserError, UserFileNotFoundError

_BEHIND_FEATURES = re.compile(
    r'(head|heads|head_dist|fc|classifier|last_linear|pre_logits|pooler|incre_modules|downsamp_modules|final_layer'
    r'|norm|ln1|fc_norm|mask_token)(\.|$)'
)
"""Surplus in the file that is no fault: what a classifier or its training has behind the features."""
_MADE_BY_ITSELF = re.compile(
    r'norm\d+\.(weight|bias)$|(.*\.)?(num_batches_tracked|relative_position_index|relative_coords_table|attn_mask)$'
)
"""Missing in the file that is no fault: neutral norms which a dense backbone (Swin, ConvNeXt) puts behind its maps,
and tensors that are computed, not learned."""


@contextmanager
def init_files_fit(model: nn.Module) -> Iterator[None]:
    """Inside, where ``init_weights()`` runs, a file of an ``init_cfg`` that does not fit its part is an error.

    A part is what has the ``init_cfg``. The file may have a classifier that the part lacks, and the part tensors that
    are not learned by a classifier; everything else must be there and of the same shape. A model whose weights are
    initialized already loads nothing and is left alone, and so is a part that says by ``checks_init_files = True`` that
    it makes sure of this by itself.

    Raises:
        FileNotFoundError: If a file is not there.
        UserError: If tensors are missing, surplus or of another shape, or if a file is not loaded at all.
    """
    parts = {} if getattr(model, 'is_init', False) else _parts(model)
    for named, checkpoint in parts.values():
        if not isinstance(checkpoint, str):
            raise UserError(f'{named} must be the path or URL of a checkpoint')
        if '://' not in checkpoint and not os.path.isfile(os.path.expanduser(checkpoint)):
            raise UserFileNotFoundError(
                f'{named} is not a file; correct the path, or remove init_cfg to begin with random weights'
            )
    loaded: set[nn.Module] = set()
    with ExitStack() as stack:
        nearest = {module: part for part in parts for module in part.modules()}  # inner parts come later
        for module, part in nearest.items():
            _watch(module, part, parts[part][0], loaded, stack)
        try:
            yield
        except AssertionError as error:
            if 'is not in the pretrained model' in str(error):
                raise UserError(f'{", ".join(named for named, _ in parts.values())}: {error}; check prefix') from error
            raise
    for part, (named, _) in parts.items():
        if part not in loaded:
            raise UserError(
                f'{named} is not loaded: {type(part).__name__} has its weights from elsewhere (see its pretrained and '
                'checkpoint_path), or an init_weights() of its own that reads no file. Leave one of the two'
            )


def _parts(model: nn.Module) -> dict[nn.Module, tuple[str, Any]]:
    """Part -> how messages name its file, and the file."""
    parts = {}
    for name, module in model.named_modules():
        settings = getattr(module, 'init_cfg', None) or ()
        if getattr(module, 'checks_init_files', False):
            continue
        for entry in [settings] if isinstance(settings, Mapping) else settings:
            if isinstance(entry, Mapping) and entry.get('type') in ('Pretrained', PretrainedInit):
                place = f'model.{name}.' if name else 'model.'
                parts[module] = f'{place}init_cfg.checkpoint={entry.get("checkpoint")!r}', entry.get('checkpoint')
    return parts


def _watch(module: nn.Module, part: nn.Module, named: str, loaded: set[nn.Module], stack: ExitStack) -> None:
    """See what a load that begins at ``module`` finds."""
    found: dict[str, Any] = {}

    def begin(module: nn.Module, state: Any, prefix: str, *rest: Any) -> None:
        found.clear()
        if not prefix:
            *_, errors = rest
            found.update(errors=errors, names=list(state))

    def end(module: nn.Module, keys: Any) -> None:
        if not found:
            return  # a load that began further up
        loaded.add(part)
        missing = [name for name in keys.missing_keys if not _MADE_BY_ITSELF.match(name)]
        surplus = [name for name in keys.unexpected_keys if not _BEHIND_FEATURES.match(name)]
        shapes = [re.sub(r'size mismatch for (.*?): .*', r'\1', text.strip()) for text in found['errors']]
        lists = (('missing', missing), ('not in the model', surplus), ('of another shape', shapes))
        problems = [f'{title}: {listed(names)}' for title, names in lists if names]
        if problems:
            own = len(part.state_dict())
            raise UserError(
                f'{named} does not hold the weights of {type(part).__name__} ({"; ".join(problems)}; it has '
                f'{len(found["names"])} tensors, the model {own}), so weights would stay random. Name the right file, '
                "or the part of it that is meant, such as init_cfg=dict(type='Pretrained', checkpoint=..., "
                "prefix='backbone.'); a network of timm is mtl_plugins.TimmBackbone, which knows more names"
            )
        if keys.missing_keys or keys.unexpected_keys:
            print_log(
                f'{named}: left out {listed(keys.unexpected_keys)}; as they were {listed(keys.missing_keys)}', 'current'
            )

    stack.callback(module.register_load_state_dict_pre_hook(begin).remove)
    stack.callback(module.register_load_state_dict_post_hook(end).remove)


def listed(names: list[str], most: int = 3) -> str:
    """The first of several names, and how many more there are."""
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return f'{", ".join(names[:most]) or "nothing"}{more}'
