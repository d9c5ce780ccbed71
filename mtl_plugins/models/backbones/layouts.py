"""Weights under the names of other projects, brought to those of timm."""

import re
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module

import timm
import torch
from torch import Tensor, nn

State = dict[str, Tensor]

_LISTED = re.compile(r'^([a-z]\w*?)_(\w+?)\.')
"""A stage of timm's feature extractors, which flatten ``stages.0.`` to ``stages_0.``."""

# EfficientNet-PyTorch numbers its blocks through and names the layers of a block by what they do. In blocks without
# expansion timm counts the normalisations from the depthwise convolution on.
_EFFICIENTNET = {
    '_conv_stem': 'conv_stem',
    '_bn0': 'bn1',
    '_conv_head': 'conv_head',
    '_bn1': 'bn2',
    '_fc': 'classifier',
}
_EXPANDING = {
    '_expand_conv': 'conv_pw',
    '_bn0': 'bn1',
    '_depthwise_conv': 'conv_dw',
    '_bn1': 'bn2',
    '_project_conv': 'conv_pwl',
    '_bn2': 'bn3',
}
_NOT_EXPANDING = {'_depthwise_conv': 'conv_dw', '_bn1': 'bn1', '_project_conv': 'conv_pw', '_bn2': 'bn2'}
_SQUEEZING = {'_se_reduce': 'se.conv_reduce', '_se_expand': 'se.conv_expand'}


def timm_names(network: nn.Module, whole: Iterable[str]) -> dict[str, str]:
    """Names that timm's weights have -> names that the tensors have in a feature extractor.

    Args:
        network: The extractor, or the network itself.
        whole: Names in the network as timm has it.
    """
    whole, found = set(whole), {}
    for own in network.state_dict():
        candidates = (own, own.removeprefix('model.'), _LISTED.sub(r'\1.\2.', own))
        found[next((name for name in candidates if name in whole), own)] = own
    return found


def converted(state: State, model_name: str, network: nn.Module, names: Iterable[str]) -> State:
    """``state`` with timm's names, if it has those of a project that is known here or to timm; else as it is.

    Args:
        state: Names and tensors of a file.
        model_name: The network's name in timm.
        network: The network as timm has it.
        names: The network's names.

    Raises:
        ValueError: If the file has something that the network has no place for.
    """
    if '_conv_stem.weight' in state:
        return dict(_from_efficientnet(state, names))
    if 'storage_tokens' in state:
        state = _without_key_bias(state, set(names))
    convert: Callable[..., State] | None = getattr(
        import_module(timm.model_entrypoint(model_name).__module__), 'checkpoint_filter_fn', None
    )
    patches, own = state.get('patch_embed.proj.weight'), network.state_dict().get('patch_embed.proj.weight')
    if convert is None or (patches is not None and own is not None and patches.shape != own.shape):
        return state  # timm would make patches of another size out of these
    try:
        return convert(dict(state), network)
    except Exception:  # it takes the file for one that it is not; the names as they are tell more
        return state


def _from_efficientnet(state: State, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
    matches = (re.match(r'blocks\.(\d+)\.(\d+)', name) for name in names)
    blocks = sorted({(int(found[1]), int(found[2])) for found in matches if found})
    for name, value in state.items():
        found = re.fullmatch(r'_blocks\.(\d+)\.(\w+)\.(\w+)', name)
        if found and int(found[1]) < len(blocks):
            expanding = f'_blocks.{found[1]}._expand_conv.weight' in state
            table = (_EXPANDING if expanding else _NOT_EXPANDING) | _SQUEEZING
            stage, place = blocks[int(found[1])]
            yield f'blocks.{stage}.{place}.{table.get(found[2], found[2])}.{found[3]}', value
        else:
            layer, _, rest = name.partition('.')
            yield f'{_EFFICIENTNET.get(layer, layer)}.{rest}', value


def _without_key_bias(state: State, names: set[str]) -> State:
    """Meta's DINOv3 saves biases of attention that are zero in some models; timm has a name for either kind."""
    if any(name.endswith('.q_bias') for name in names):
        return state
    biases = {name: value for name, value in state.items() if name.endswith('.attn.qkv.bias')}
    if any(_has_values(value) for value in biases.values()):
        raise ValueError('it has biases of queries and values, which this model has not: add _qkvb to the model_name')
    return {name: value for name, value in state.items() if name not in biases}


def _has_values(bias: Tensor) -> bool:
    queries, _, values = bias.chunk(3)  # those of the keys are masked
    return bool(torch.cat([queries, values]).nan_to_num().any())
