"""Settings of single parameters that reach none: the constructors of optimizer wrappers ignore them without a word."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.logging import print_log
from torch import nn
from torch.optim import Optimizer

from mtl_plugins.methods.naming import near_names

_RULES = {
    'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult', 'dwconv_decay_mult', 'dcn_offset_lr_mult',
    'bypass_duplicate', 'custom_keys',
}  # fmt: skip
_LAYER_DECAY = {'num_layers', 'decay_rate', 'decay_type', 'layer_decay_rate'}
READ = {
    'DefaultOptimWrapperConstructor': _RULES,
    'ForceDefaultOptimWrapperConstructor': {*_RULES, 'force_default_settings'},
    'LearningRateDecayOptimizerConstructor': _LAYER_DECAY,
    'LayerDecayOptimizerConstructor': _LAYER_DECAY,
}
"""Constructor of MMEngine or MMSegmentation -> the entries of ``paramwise_cfg`` that it reads."""


def warn_of_unused_settings(cfg: Any, model: nn.Module, optimizer: Optimizer) -> None:
    """Warn of entries of ``optim_wrapper.paramwise_cfg`` that change nothing.

    Args:
        cfg: ``optim_wrapper`` as the config has it; what is no dict, or has a constructor of its own, is not examined.
        model: Its parameters are those that ``custom_keys`` name.
        optimizer: Its settings are what an entry of ``custom_keys`` may hold beside the two factors.
    """
    settings = cfg.get('paramwise_cfg') if isinstance(cfg, Mapping) else None
    if not isinstance(settings, Mapping):
        return
    constructor = str(cfg.get('constructor') or 'DefaultOptimWrapperConstructor').rpartition('.')[2]
    if constructor not in READ:
        return
    read = READ[constructor]
    found = [f'{name}: {constructor} does not read it, but {", ".join(sorted(read))}' for name in {*settings} - read]
    if 'custom_keys' in read:
        found += _unused_keys(settings.get('custom_keys') or {}, model, {'lr_mult', 'decay_mult', *optimizer.defaults})
    for text in sorted(found):
        print_log(f'optim_wrapper.paramwise_cfg has an entry without effect: {text}', 'current', logging.WARNING)


def _unused_keys(keys: Mapping[str, Mapping], model: nn.Module, options: set[str]) -> Iterator[str]:
    # As MMEngine matches them: the longest key that is a part of the name.
    names = [name if '.' in name else f'.{name}' for name, _ in model.named_parameters()]
    longest_first = sorted(sorted(keys), key=len, reverse=True)
    reached = {next((key for key in longest_first if key in name), None) for name in names}
    parts = {part for name in names for part in name.split('.')}
    for key, entry in keys.items():
        if key not in reached:
            taken = any(key in name for name in names)
            reason = 'longer keys take all its parameters' if taken else 'it is part of no name of a parameter'
            near = [] if taken else near_names(key.rpartition('.')[2], sorted(parts), 2)
            yield f'custom_keys[{key!r}]: {reason}' + f'; did you mean {" or ".join(map(repr, near))}?' * bool(near)
        for name in {*entry} - options:
            yield f'custom_keys[{key!r}][{name!r}]: no setting of the optimizer; known: {", ".join(sorted(options))}'
