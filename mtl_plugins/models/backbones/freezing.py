"""Parts of a network that do not learn."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from .channels import PROBE_SIZE, run_on_meta


def freeze(parameters: Iterable[nn.Parameter]) -> None:
    """Take parameters out of the training."""
    for parameter in parameters:
        parameter.requires_grad_(False)


def hold_frozen(network: nn.Module) -> None:
    """Set every part of ``network`` whose parameters are all frozen to evaluation mode, whatever it contains."""
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def behind_maps(backbone: nn.Module, count: int) -> list[nn.Parameter]:
    """The parameters of ``backbone`` that its first ``count`` maps depend on, by the graph of a run without values.

    Args:
        backbone: Returns maps; ``size_divisor`` says which sizes it takes.
        count: Number of maps.
    """
    divisor = math.lcm(*backbone.size_divisor)
    size = tuple(getattr(backbone, 'fixed_size', None) or (-(-PROBE_SIZE // divisor) * divisor,) * 2)
    maps, parameters = run_on_meta(backbone, size, grad=True)
    names = [name for name, parameter in parameters.items() if parameter.requires_grad]
    total = sum(m.sum() for m in maps[:count])
    found = torch.autograd.grad(total, [parameters[name] for name in names], allow_unused=True)
    own = dict(backbone.named_parameters())
    return [own[name] for name, gradient in zip(names, found) if gradient is not None]
