"""Set-ups that cannot give right per-task results, refused before training."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mtl_plugins.errors import UserTypeError

_SHARDED = (
    'FullyShardedDataParallel',
    'FSDPModule',
    'DeepSpeedEngine',
    'MMDeepSpeedEngineWrapper',
    'ColossalAIModelWrapper',
)


def bare_model(model: nn.Module) -> nn.Module:
    """The model itself: unwraps DDP, and refuses what multi-task steps cannot work with.

    Raises:
        TypeError: For FSDP, DeepSpeed and other sharding wrappers, for a compiled ``train_step``, and for
            ``detect_anomalous_params=True``.
    """
    bases = {base.__name__ for base in type(model).__mro__}
    sharded = bases.intersection(_SHARDED)
    if sharded:
        raise UserTypeError(
            f'multi-task steps run several forwards and backwards per batch, which {sorted(sharded)[0]} does not '
            'support. Use one process or DDP (model_wrapper_cfg=dict(type="MMDistributedDataParallel"))'
        )
    if getattr(model, 'detect_anomalous_params', False):
        raise UserTypeError(
            'detect_anomalous_params=True inspects the loss that train_step returns, which is detached in multi-task '
            'training. Remove it from model_wrapper_cfg; tools/doctor.py lists unused parameters instead'
        )
    if hasattr(getattr(model, 'train_step', None), '_torchdynamo_orig_callable'):
        raise UserTypeError(
            'cfg.compile compiles the whole train_step, which makes several forwards and backwards here. '
            'Remove cfg.compile and compile the backbone instead (torch.compile(model.backbone))'
        )
    return model.module if isinstance(model, DistributedDataParallel) else model
