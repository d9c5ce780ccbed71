"""Training longer or shorter: the length of a config and all that its schedule counts in iterations."""

import math
import re
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mtl_plugins.errors import UserError

_STEPS = ('begin', 'end', 'T_max', 'step_size', 'milestones', 'periods', 'total_steps')
"""Settings of MMEngine's schedulers that are iterations, or lists of them."""
_KINDS = r'(Constant|CosineAnnealing|CosineRestart|Exponential|Linear|MultiStep|OneCycle|Poly|Step|ReduceOnPlateau)'
_KNOWN = re.compile(rf'^(mmengine\.(\w+\.)*)?{_KINDS}(LR|Momentum|ParamScheduler)$')
_NEVER = 10**9


def stretch(cfg: Config, factor: float) -> None:
    """Make a training ``factor`` times as long, in place.

    ``train_cfg.max_iters``, the intervals between validations (so that there are as many of them) and whatever the
    parameter schedulers count in iterations become ``factor`` times as large; warm-ups too. What a method counts in
    iterations, such as ``warmup_iters``, stays.

    Raises:
        UserError: If a scheduler is not one of MMEngine's, so that it is unknown what it counts in iterations.
    """
    train = cfg.train_cfg
    train.max_iters = _scaled(train.max_iters, factor)
    for name in ('val_begin', 'val_interval'):
        if name in train:
            train[name] = math.ceil(round(train[name] * factor, 6))  # as many validations, not one more
    if train.get('dynamic_intervals'):
        train.dynamic_intervals = [tuple(_scaled(value, factor) for value in pair) for pair in train.dynamic_intervals]
    if cfg.get('param_scheduler'):
        cfg.param_scheduler = _stretched(cfg.to_dict()['param_scheduler'], factor, 'param_scheduler')


def _stretched(schedulers: Any, factor: float, place: str) -> Any:
    if isinstance(schedulers, list | tuple):
        return [_stretched(each, factor, f'{place}[{number}]') for number, each in enumerate(schedulers)]
    if 'type' not in schedulers:  # one list per optimizer
        return {name: _stretched(each, factor, f'{place}.{name}') for name, each in schedulers.items()}
    if not _KNOWN.match(str(schedulers['type'])):
        raise UserError(
            f'{place} has the type {schedulers["type"]}, of which it is not known what it counts in iterations; use '
            "one of MMEngine's schedulers, or compare at equal compute by gd[passes=@NAME]"
        )
    found: dict[str, Any] = {}
    for name, value in schedulers.items():
        listed = isinstance(value, list | tuple)
        if name in _STEPS and value is not None:
            value = [_scaled(each, factor) for each in value] if listed else _scaled(value, factor)
        found[name] = value
    if 'Exponential' in found['type']:  # a factor per iteration
        found['gamma'] = found['gamma'] ** (1 / factor)
    return found


def _scaled(value: float, factor: float) -> int:
    """A number of iterations; 0 stays, and so does what means "never"."""
    return max(1, round(value * factor)) if 0 < value < _NEVER else value


def compute_of(cost: Mapping[str, Any]) -> float:
    """Forwards and backwards in iterations of ordinary training, a backward counted as two forwards."""
    return ((cost.get('forwards') or 0) + 2 * (cost.get('backwards') or 0)) / 3
