"""From the name of a config and a checkpoint to a model that is ready to predict."""

import copy
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mtl_plugins.config.datasets import file_datasets
from mtl_plugins.config.loading import configs_root, load_config, set_tasks
from mtl_plugins.config.places import enter_scope
from mtl_plugins.config.refusals import refusals_of
from mtl_plugins.config.unavailable import refuse_missing_packages
from mtl_plugins.errors import UserError, UserFileNotFoundError, UserTypeError
from mtl_plugins.methods.naming import near_names
from mtl_plugins.models import MultiTaskSegmentor
from mtl_plugins.registry import MODELS
from mtl_plugins.runtime.checkpoints import safe_loading
from mtl_plugins.runtime.checkpoints.fitting import load_weights, other_shapes, weights_of
from mtl_plugins.runtime.checkpoints.targets import KEY, OPTION, target_differences
from mtl_plugins.utils.init_files import listed

DEFAULT_DIVISOR = 32
"""For backbones that do not say it: what networks with maps down to 1/32 of the image need."""


class LoadedModel(NamedTuple):
    """A model in evaluation mode, and what its dataset said of its tasks (``classes``, ``palettes``)."""

    model: MultiTaskSegmentor
    meta: dict[str, Any]


def find_config(config: str | os.PathLike | Mapping[str, Any], cfg_options: dict[str, Any] | None = None) -> Config:
    """Read a config.

    Args:
        config: A config file, the name of a shipped config (``'stgu_vit-micro_8b-2k_rooms-96'``, with or without its
            folder), or a config that was read already, which is not changed.
        cfg_options: Entries to change, as MMEngine's ``--cfg-options``.

    Raises:
        FileNotFoundError: If there is no such config; the message lists near matches.
        TypeError: If it is none of these.
    """
    if isinstance(config, Mapping | Config):
        cfg = copy.deepcopy(config) if isinstance(config, Config) else Config(ConfigDict(copy.deepcopy(dict(config))))
        cfg.merge_from_dict(cfg_options or {})
        return cfg
    if not isinstance(config, str | os.PathLike):
        raise UserTypeError(f'expected a config file, the name of a shipped config or a config, but got {type(config)}')
    if '::' in str(config) or Path(config).is_file():
        return load_config(config, cfg_options)
    root = configs_root()
    shipped = {path.stem: path for path in sorted(root.rglob('*.py')) if '_base_' not in path.parts}
    stem = Path(config).name.removesuffix('.py')
    path = shipped.get(stem)
    if path is None or not path.with_suffix('').as_posix().endswith(Path(config).as_posix().removesuffix('.py')):
        near = near_names(stem, shipped)
        hint = f'; shipped configs with a similar name: {", ".join(near)}' if near else ''
        raise UserFileNotFoundError(f'no config file {config}, and no config of this name in {root}{hint}')
    return load_config(path, cfg_options)


def load_model(
    cfg: Config,
    weights: str | os.PathLike | None,
    device: str | torch.device = 'cpu',
    tasks: Sequence[str] | None = None,
) -> LoadedModel:
    """Build the model of a config and load its weights without running code out of the file.

    Heads for which the checkpoint has no weights at all are left out of ``cfg`` and of the model, with a warning: that
    is how a single-task model is used with the config of all tasks.

    Args:
        cfg: The config; see above.
        weights: Checkpoint, a file or a URL. None leaves the weights random, with a warning.
        device: Where the model belongs.
        tasks: What is predicted, None for all; the weights' other targets are no matter.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If the weights do not fit the model, the device cannot be used, or the model is none of ours.
    """
    enter_scope(cfg)
    if not cfg.get('model'):
        raise UserError(f'the config has no model; its entries: {", ".join(cfg) or "none"}')
    checkpoint = None if weights is None else _read(weights)
    if checkpoint is not None:
        _leave_out_heads(cfg, checkpoint['state_dict'], str(weights))
    refuse_missing_packages(cfg.model)
    with refusals_of(cfg):
        model = MODELS.build(cfg.model)
    if not isinstance(model, MultiTaskSegmentor):
        raise UserError(
            f'inference and export are for models of type mtl_plugins.MultiTaskSegmentor, but the config has '
            f"{type(model).__name__}; for models of mmseg use mmseg's own inferencer"
        )
    meta = _dataset_meta(checkpoint or {})
    if checkpoint is None:
        print_log('no checkpoint was given: the weights are random, the predictions mean nothing', level=30)
    else:
        _load_weights(model, checkpoint['state_dict'], str(weights))
        meta = _targets(cfg, meta, str(weights), model.tasks if tasks is None else tasks)
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split('\n')[0]
        raise UserError(f"device '{device}' cannot be used ({reason}); device='cpu' always can") from error
    model.eval()
    model.cfg = cfg
    return LoadedModel(model, dict(meta))


def size_divisor(model: MultiTaskSegmentor) -> tuple[int, int]:
    """Height and width that the sides of every network input must be multiples of.

    That is the patch size for :class:`~mtl_plugins.models.TimmViT`, 32 x 32 for backbones that do not tell by an
    attribute ``size_divisor``, and in either case a multiple of the data preprocessor's ``size_divisor``.
    """
    own = getattr(model.backbone, 'size_divisor', DEFAULT_DIVISOR)
    own = (own, own) if isinstance(own, int) else tuple(own)
    extra = getattr(model.data_preprocessor, 'size_divisor', None) or 1
    return tuple(math.lcm(side, extra) for side in own)


def _read(weights: str | os.PathLike) -> dict[str, Any]:
    """The checkpoint as a dict with ``state_dict``, whose keys carry no prefix of a wrapper."""
    with safe_loading():
        checkpoint = CheckpointLoader.load_checkpoint(str(weights), map_location='cpu', logger=_quiet())
    state = weights_of(checkpoint)
    if not state:
        raise UserError(
            f'{weights} holds no weights: expected a dict of names and tensors, or one under state_dict, as trainings '
            f'save it, but found {_held(checkpoint.get("state_dict", checkpoint))}'
        )
    return {**(checkpoint if 'state_dict' in checkpoint else {}), 'state_dict': state}


def _held(content: Mapping[str, Any]) -> str:
    return f'a dict with {", ".join(map(repr, list(content)[:5]))}' if content else 'an empty dict'


def _dataset_meta(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in ('meta', 'dataset_meta'):
        found = checkpoint.get(key)
        checkpoint = found if isinstance(found, Mapping) else {}
    return checkpoint


def _targets(cfg: Config, trained: Mapping[str, Any], weights: str, tasks: Sequence[str]) -> dict[str, Any]:
    """What the predictions mean: as the checkpoint says, and what it does not say of the targets, as the config says.

    Raises:
        UserError: If the dataset of the config reads its targets in another way than in training, or may do so.
    """
    told, read = [], {}
    for place, dataset in file_datasets(cfg):
        if place.startswith('train'):
            place = re.sub(r'\[(\d+)\]', r'.\1', place)
            told += target_differences(trained, dataset, place, tasks, labels=False)  # names come from the checkpoint
            read.update(dataset.metainfo.get(KEY) or {})
    meaning = {KEY: read, **trained} if read else dict(trained)
    if not told:
        return meaning
    text = f'the predictions of {weights} are not what the config says of them: {"; ".join(told)}'
    if cfg.get('default_hooks', {}).get('target_check', {}).get('differing') != 'warn':
        raise UserError(f'{text}; --cfg-options {OPTION} goes on all the same')
    print_log(text, level=logging.WARNING)
    return meaning


def _quiet() -> logging.Logger:
    logger = logging.getLogger('mtl_plugins.inference')
    logger.setLevel(logging.WARNING)
    return logger


def _leave_out_heads(cfg: Config, state: Mapping[str, torch.Tensor], weights: str) -> None:
    heads = cfg.model.get('heads')
    trained = {key.split('.')[1] for key in state if key.startswith('heads.')}
    if not heads or not trained & set(heads):
        return
    kept = [task for task in heads if task in trained]
    if len(kept) < len(heads):
        print_log(
            f'{weights} has no weights for the heads of {", ".join(task for task in heads if task not in trained)}; '
            f'going on with {", ".join(kept)} alone',
            level=logging.WARNING,
        )
        set_tasks(cfg, kept)


def _load_weights(model: nn.Module, state: Mapping[str, torch.Tensor], weights: str) -> None:
    own = model.state_dict()
    shapes = other_shapes(state, own).items()
    misfits = [f'{name} {saved} instead of {now}' for name, (saved, now) in shapes]
    missing = [name for name in own if name not in state]
    for problem, names in (('other shapes than the model', misfits), ('no weights for', missing)):
        if names:
            raise UserError(
                f'{weights} does not fit the model of the config. It has {problem}: {listed(names)}. Take the config '
                'that the model was trained with; the training left a copy of it in its work dir'
            )
    broken = [name for name in own if state[name].isnan().any()]
    if broken:
        raise UserError(
            f'{weights}: {len(broken)} weights are not numbers (NaN), for example {broken[0]}, so that no prediction '
            'would be one. The training diverged before this checkpoint was saved; take an earlier one'
        )
    unused = load_weights(model, state).dropped
    if unused:
        print_log(f'{weights}: {len(unused)} entries are not used, for example {unused[0]}', level=logging.WARNING)
