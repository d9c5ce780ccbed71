"""Who reads an entry of a config, and what arguments it takes."""

import inspect
import re
from typing import Any

from mmengine.config import Config
from mmengine.dist import init_dist
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, LogProcessor, Runner
from mmengine.utils.dl_utils import set_multi_processing
from torch.distributed import init_process_group
from torch.utils.data import DataLoader

from mtl_plugins.engine.parameter_settings import READ
from mtl_plugins.errors import UserError, refusing
from mtl_plugins.models import MultiTaskDataPreProcessor, TaskHead
from mtl_plugins.utils.argument_types import Checked, check_arguments

from .hints import classes_named
from .places import LOADERS, entries


def _paramwise() -> None:
    """What the constructors of MMEngine and MMSegmentation read."""


_paramwise.__signature__ = inspect.Signature(
    [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in sorted(set().union(*READ.values()))]
)


def _custom_key(lr_mult, decay_mult):
    """What the constructors of MMEngine read; the rest goes to the optimizer, which takes anything."""


def _optim_wrapper(optimizer, constructor, paramwise_cfg):
    """What ``build_optim_wrapper`` takes for itself."""


def _env_cfg(cudnn_benchmark: bool, mp_cfg: dict, dist_cfg: dict, resource_limit: int):
    """What ``Runner.setup_env`` reads."""


def _auto_scale(enable: bool, base_batch_size: int):
    """What ``Runner.scale_lr`` reads."""


_READERS = {
    '': (Runner,),
    **dict.fromkeys(LOADERS, (DataLoader, Runner.build_dataloader)),
    'optim_wrapper': (OptimWrapper, _optim_wrapper),
    'optim_wrapper.paramwise_cfg': (_paramwise,),
    'optim_wrapper.paramwise_cfg.custom_keys.*': (_custom_key,),
    'auto_scale_lr': (_auto_scale,),
    'train_cfg': (EpochBasedTrainLoop, IterBasedTrainLoop),
    'randomness': (Runner.set_randomness,),
    'log_processor': (LogProcessor,),
    'env_cfg': (_env_cfg,),
    'env_cfg.mp_cfg': (set_multi_processing,),
    'env_cfg.dist_cfg': (init_dist, init_process_group),
    'custom_hooks.*': (Runner.register_hook,),
    'default_hooks.*': (Runner.register_hook,),
    'model.heads.*': (TaskHead,),
    'model.data_preprocessor': (MultiTaskDataPreProcessor,),
}
"""Place in a config (``*`` is every entry) -> who reads it beside the class that its ``type`` names."""
_RUNTIME = (
    'log_processor', 'env_cfg', 'env_cfg.*', 'randomness', 'auto_scale_lr', 'default_hooks.*', 'custom_hooks.*',
    'train_cfg', 'val_cfg', 'test_cfg', 'train_dataloader', 'val_dataloader', 'test_dataloader',
    'train_dataloader.sampler', 'val_dataloader.sampler', 'test_dataloader.sampler', 'param_scheduler.*', 'visualizer',
)  # fmt: skip
_KINDS = {
    'bool': (lambda value: value in (0, 1), 'True or False'),
    'int': (lambda value: isinstance(value, int) and not isinstance(value, bool), 'a whole number'),
    'float': (lambda value: isinstance(value, int | float) and not isinstance(value, bool), 'a number'),
    'str': (lambda value: isinstance(value, str), 'text'),
    'dict': (lambda value: isinstance(value, dict | list | tuple), 'a dict'),  # MMSegmentation writes it of lists, too
}


def readers_of(place: str, node: Any) -> list[Any]:
    """The classes and functions that take the entries of the dict ``node``, as far as they are known."""
    kind = node.get('type') if isinstance(node, dict) else None
    parts = place.split('.')
    known = (
        readers
        for pattern, readers in _READERS.items()
        if len(parts) == len(pattern.split('.')) and all(a in ('*', b) for a, b in zip(pattern.split('.'), parts))
    )
    return [*classes_named(kind), *(reader for readers in known for reader in readers)]


def arguments_of(reader: Any) -> dict[str, inspect.Parameter]:
    """What a function or class takes; where a class hands ``**kwargs`` on, also what its base classes take."""
    found: dict[str, inspect.Parameter] = {}
    for one in reader.__mro__[:-1] if inspect.isclass(reader) else (reader,):
        if inspect.isclass(one) and '__init__' not in vars(one):
            continue
        parameters = inspect.signature(one.__init__ if inspect.isclass(one) else one).parameters
        found = {**parameters, **found}
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return found


def check_kinds(cfg: Config) -> None:
    """Refuse text where the reader of a setting of the runtime takes a number, and the like.

    Raises:
        UserError: For the first entry that is of no kind which the annotation or the default of its argument names.
    """
    dicts = [('', cfg._cfg_dict), *(found for part in _RUNTIME for found in entries(cfg._cfg_dict, part.split('.')))]
    for place, node in dicts:
        if not isinstance(node, dict):
            continue
        for reader in readers_of(place, node):
            if inspect.isclass(reader) and issubclass(reader, Checked):
                with refusing():
                    check_arguments(reader, node, f'{place}.')
        readers = [arguments_of(reader) for reader in readers_of(place, node)]
        for name, value in node.items():
            kinds = [_kinds(arguments[name]) for arguments in readers if name in arguments]
            fits = value is None or any(_KINDS[kind][0](value) for each in kinds for kind in each)
            if kinds and all(kinds) and not fits:
                wanted = ' or '.join(dict.fromkeys(_KINDS[kind][1] for each in kinds for kind in each))
                raise UserError(f'{place}.{name} must be {wanted}, but is {value!r}'.lstrip('.'))


def _kinds(parameter: inspect.Parameter) -> set[str]:
    """What an argument takes, if these are plain things; else nothing."""
    note = parameter.annotation
    if note is inspect.Parameter.empty:
        note = type(parameter.default)
    words = set(re.findall(r'[a-zA-Z]+', note.__name__ if inspect.isclass(note) else str(note)))
    words -= {'typing', 'Optional', 'Union', 'None', 'NoneType'}
    words = {'dict' if word == 'Dict' else word for word in words}
    return words if words <= set(_KINDS) else set()
