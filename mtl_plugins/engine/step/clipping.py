"""What ``clip_grad`` of an optimizer wrapper may be."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from mtl_plugins.errors import UserError, UserTypeError

_CLIPS = {'norm': (clip_grad_norm_, 'max_norm'), 'value': (clip_grad_value_, 'clip_value')}


def check_clipping(clip: Any) -> dict[str, Any] | None:
    """The settings of a clip as a dict of their own; None if there is none.

    Args:
        clip: ``dict(max_norm=1.0)`` or ``dict(type='value', clip_value=0.1)``, with further arguments of
            ``torch.nn.utils.clip_grad_norm_`` or ``clip_grad_value_``.

    Raises:
        UserError: If it is something else. A limit below 0 would turn the gradient round without a word.
    """
    if clip is None or (isinstance(clip, Mapping) and not clip):
        return None
    if not isinstance(clip, Mapping):
        raise UserTypeError(f'optim_wrapper.clip_grad must be a dict or None, but is {clip!r}')
    kind = clip.get('type', 'norm')
    if kind not in _CLIPS:
        raise UserError(f"optim_wrapper.clip_grad.type must be 'norm' or 'value', but is {kind!r}")
    clipper, needed = _CLIPS[kind]
    known = {*inspect.signature(clipper).parameters, 'type'} - {'parameters'}
    wrong = [name for name in clip if name not in known] or [needed] * (needed not in clip)
    if wrong:
        problem = 'lacks' if wrong == [needed] else 'has an unknown entry'
        raise UserError(
            f'optim_wrapper.clip_grad {problem} {wrong[0]!r}: of type {kind!r} it takes {needed} and, if wanted, '
            f'{", ".join(sorted(known - {needed}))}'
        )
    limit = clip[needed]
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
        raise UserError(f'optim_wrapper.clip_grad.{needed} must be a number above 0, but is {limit!r}')
    return dict(clip)
