"""Set-ups that cannot give right per-task results, refused before training."""

from itertools import chain
from typing import Any

from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtl_plugins.errors import UserError, UserRuntimeError, UserTypeError

_SHARDED = (
    'FullyShardedDataParallel',
    'FSDPModule',
    'DeepSpeedEngine',
    'MMDeepSpeedEngineWrapper',
    'ColossalAIModelWrapper',
)

_COMPILED = (
    '{} compiles {}, which makes several forwards and backwards here, watched by hooks. Remove it and compile the '
    'backbone instead (custom_hooks=[dict(type="mtl_plugins.CompileHook")], or model.backbone.compile())'
)


def bare_model(model: nn.Module) -> nn.Module:
    """The model itself: unwraps DDP, and refuses what multi-task steps cannot work with, also inside of it.

    Raises:
        TypeError: For FSDP, DeepSpeed and other sharding wrappers, for DDP around parts of the model, for what
            :func:`refuse_compiled` refuses, and for ``detect_anomalous_params=True``.
    """
    core = model.module if isinstance(model, DistributedDataParallel) else model
    for place, module in chain([('', model)], core.named_modules()):
        inside = f' (around {place})' if place else ''
        kinds = [base.__name__ for base in type(module).__mro__ if base.__name__ in _SHARDED]
        if kinds:
            raise UserTypeError(
                f'multi-task steps run several forwards and backwards per batch, which {sorted(kinds)[0]}{inside} does '
                'not support. Use one process or DDP (model_wrapper_cfg=dict(type="MMDistributedDataParallel"))'
            )
        if module is not model and isinstance(module, DistributedDataParallel):
            raise UserTypeError(
                f'{type(module).__name__}{inside} exchanges gradients in every backward, and a multi-task step makes '
                'several. Wrap the whole model instead: model_wrapper_cfg=dict(type="MMDistributedDataParallel")'
            )
    if getattr(model, 'detect_anomalous_params', False):
        raise UserTypeError(
            'detect_anomalous_params=True inspects the loss that train_step returns, which is detached in multi-task '
            'training. Remove it from model_wrapper_cfg; tools/doctor.py lists unused parameters instead'
        )
    refuse_compiled(model)
    return core


def refuse_several_wrappers(wrapper: OptimWrapper | OptimWrapperDict, model: nn.Module) -> None:
    """Refuse one optimizer wrapper per part of a model whose ``train_step`` is MMEngine's, which steps only one.

    Raises:
        UserError: See above.
    """
    stock = (BaseModel.train_step, MMDistributedDataParallel.train_step)
    if isinstance(wrapper, OptimWrapperDict) and getattr(type(model), 'train_step', None) in stock:
        raise UserError(
            f'optim_wrapper has one wrapper each for {", ".join(wrapper.keys())}, but the train_step of '
            f'{type(model).__name__} is that of MMEngine, which steps a single one. Override train_step so that it '
            'calls optim_context and update_params of each, or write optim_wrapper=dict(optimizer=dict(...)), with '
            'paramwise_cfg=dict(custom_keys=dict(...)) where parts of the model need rates of their own'
        )


def refuse_sparse(model: nn.Module) -> None:
    """Raise a UserTypeError for layers with sparse gradients, which have no place in a row of gradients."""
    for place, module in model.named_modules():
        if getattr(module, 'sparse', None) is True and isinstance(module, nn.Embedding | nn.EmbeddingBag):
            raise UserTypeError(
                f'the gradients of {place} are sparse, and methods that compare the gradients of tasks work on dense '
                'ones: build it with sparse=False, or use a method that weights losses'
            )


def refuse_compiled(model: nn.Module) -> None:
    """Raise a TypeError if the whole step or the whole model is compiled; parts of the model may be."""
    core = model.module if isinstance(model, DistributedDataParallel) else model
    for each in (model, core):
        for what in ('train_step', 'forward'):
            if hasattr(getattr(each, what, None), '_torchdynamo_orig_callable'):
                raise UserTypeError(_COMPILED.format('cfg.compile', f'the whole {what}'))
        if getattr(each, '_compiled_call_impl', None) is not None:
            raise UserTypeError(_COMPILED.format('model.compile()', 'the whole model'))


def refuse_backward(wrapper: OptimWrapper, loss: Tensor, **kwargs: Any) -> None:
    """What a multi-task wrapper has in place of ``backward``: there is not one loss that its step differentiates.

    Raises:
        UserRuntimeError: Always.
    """
    raise UserRuntimeError(
        f'{type(wrapper).__name__} differentiates the losses of the tasks by itself: a train_step must call '
        'update_params(loss) in place of backward(), step() and zero_grad()'
    )


def refuse_step(wrapper: OptimWrapper) -> None:
    """Raise a UserRuntimeError: a gradient that ``loss.backward()`` has left would be stepped without the method."""
    raise UserRuntimeError(
        f'{type(wrapper).__name__}.step() was called outside of a multi-task step, so that {wrapper.method_name} would '
        'have no part in it: a train_step must call update_params(loss) in place of backward() and step(). If another '
        'step is meant, call optim_wrapper.optimizer.step()'
    )
