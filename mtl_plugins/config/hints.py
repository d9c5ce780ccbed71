"""Plain advice about the errors of other libraries that set-ups usually die of; ours bring their own."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from mmengine import registry as roots
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner

from mtl_plugins.errors import message_of
from mtl_plugins.methods.naming import near_names

from .places import LOADERS, walk

_UNREGISTERED = re.compile(r"^'?(?P<name>[\w.]+) is not in the (?P<scope>\w+)::(?P<kind>[\w ]+) registry")
_ARGUMENT = re.compile(r"(?P<owner>\w+)?\.?__init__\(\) got an unexpected keyword argument '(?P<name>\w+)'")
_PATH = re.compile(r'(?:[\w.-]+)?(?:/[\w.@ -]+)+|[\w.-]+\.(?:pth|txt|json|py|pt|safetensors)')
NO_NETWORK = ('urlopen error', 'URLError', 'Max retries', 'ConnectError', 'ConnectionError', 'LocalEntryNotFound')
NO_NETWORK += ('OfflineMode', 'Temporary failure in name resolution')
"""Names of errors, or parts of messages, of clients that found no network."""
_SIGNS = {
    NO_NETWORK: 'weights were to be downloaded, but there is no connection. Set pretrained to a local file, or to '
    'False (None in MMSegmentation) for random weights',
    ('out of memory', 'Out of memory', 'MemoryError', 'enough memory'): 'the batch does not fit into memory: lower '
    'train_dataloader.batch_size (with optim_wrapper.accumulative_counts to keep the effective batch), use --precision '
    'bf16, or a smaller model',
    ('stack expects each tensor to be equal size',): 'the images of a batch differ in size: end the training pipeline '
    'with a crop and a pad to one size',
    ('does not require grad',): 'no parameter that requires a gradient reaches the loss: are all layers frozen, or the '
    'loss detached?',
}
"""Parts of what torch and others say -> what to do about it."""


def hint_for(error: BaseException, cfg: Config | None = None) -> str:
    """What to do about ``error``, one or two sentences; empty if nothing better than its message is known."""
    advice = getattr(error, 'advice', '')
    if advice:
        return advice
    for rule in _RULES:
        hint = rule(error, message_of(error), cfg)
        if hint:
            return hint
    return ''


def _unregistered(error: BaseException, text: str, cfg: Config | None) -> str:
    found = _UNREGISTERED.match(text)
    if not found:
        return ''
    name, kind = found['name'], found['kind']
    known = {full.rsplit('.', 1)[-1]: full for full in _registered(kind)}
    near = near_names(name.rsplit('.', 1)[-1], known, cutoff=0.6)
    place = f' ({where_in_config(cfg, name)})' if where_in_config(cfg, name) else ''
    if near:
        return f"no {kind} is called '{name}'{place}; did you mean {' or '.join(repr(known[n]) for n in near)}?"
    return (
        f"no {kind} is called '{name}'{place}. If it is your own class, register it and name its module in "
        'custom_imports=dict(imports=["my_module"])'
    )


def _registered(kind: str) -> Iterator[str]:
    for node in _registries():
        if (node.parent or node).name == kind:
            prefix = f'{node.scope}.' if node.parent else ''
            yield from (prefix + name for name in node.module_dict)


def _unexpected_argument(error: BaseException, text: str, cfg: Config | None) -> str:
    found = _ARGUMENT.search(text) if isinstance(error, TypeError) else None
    if not found:
        return ''
    owner = found['owner']
    cls = next((node.module_dict[owner] for node in _registries() if owner in node.module_dict), None)
    advice = f"{owner or 'the class'} has no argument '{found['name']}'"
    place = where_in_config(cfg, found['name'], keys=True)
    advice += f' ({place})' if place else ''
    if cls is None:
        return advice + '; remove it or correct its name'
    arguments = [name for name in inspect.signature(cls.__init__).parameters if name not in ('self', 'args', 'kwargs')]
    near = near_names(found['name'], arguments, 2)
    if near:
        return f'{advice}; did you mean {" or ".join(map(repr, near))}?'
    return f'{advice}; it has {", ".join(arguments)}'


def _registries() -> Iterator[Registry]:
    """The roots of MMEngine, each before its children."""
    for root in vars(roots).values():
        if isinstance(root, Registry):
            yield from (root, *root.children.values())


def _missing_file(error: BaseException, text: str, cfg: Config | None) -> str:
    if not isinstance(error, FileNotFoundError):
        return ''
    path = getattr(error, 'filename', None) or next(iter(_PATH.findall(text)), '')
    place = where_in_config(cfg, str(path), paths=True) if path else ''
    if place.startswith(LOADERS) and place.endswith(('.root', '.data_root')):
        return f'the data are not where {place} says; correct it, or give the folder of your data: --data-root DIR'
    if place.partition('.')[0] not in inspect.signature(Runner).parameters and place:
        return f'the path comes from {place}, a variable of the config file; correct it there'
    if place:
        return f'the path comes from {place}; correct it there or with --cfg-options {place}=PATH'
    return ''


def _unknown_module(error: BaseException, text: str, cfg: Config | None) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"the package '{error.name.split('.')[0]}' is not installed here: pip install it, or remove what needs it"
        )
    return ''


def _by_signs(error: BaseException, text: str, cfg: Config | None) -> str:
    told = f'{type(error).__name__} {text}'
    return next((advice for signs, advice in _SIGNS.items() if any(sign in told for sign in signs)), '')


_RULES: tuple[Callable[[BaseException, str, Config | None], str], ...] = (
    _unregistered,
    _unexpected_argument,
    _by_signs,
    _missing_file,
    _unknown_module,
)


def classes_named(kind: Any) -> list[type]:
    """The classes that the ``type`` of a config may mean."""
    if inspect.isclass(kind):
        return [kind]
    if not isinstance(kind, str):
        return []
    name = kind.rpartition('.')[2]
    found = set()
    for node in _registries():
        node.import_from_location()
        found.add(node.module_dict.get(name))
    return [cls for cls in found if inspect.isclass(cls)]


def where_in_config(cfg: Config | None, text: str, *, keys: bool = False, paths: bool = False) -> str:
    """Place of the first entry of the config that is ``text``.

    Args:
        cfg: The config, None if it could not be read.
        text: What to look for.
        keys: Look at the names of entries instead of their values.
        paths: Accept a folder that ``text`` lies in.
    """

    def matches(key: str, value: Any) -> bool:
        if keys:
            return key == text
        if not isinstance(value, str) or not value:
            return False
        return value == text or (paths and (text.startswith(value.rstrip('/') + '/') or text.rstrip('/') == value))

    return _search(cfg, matches)


def entry_in_config(cfg: Config, entry: dict[str, Any], *, completed: bool = False) -> str:
    """Where a config has a dict like ``entry``; empty if nowhere.

    Args:
        cfg: The config.
        entry: What to look for.
        completed: Whether whoever built something from it may have added arguments of its own.
    """

    def matches(key: str, value: Any) -> bool:
        try:
            if completed and isinstance(value, dict) and value:
                return all(name in entry and bool(entry[name] == one) for name, one in value.items())
            return isinstance(value, dict) and bool(value == entry)
        except (ValueError, RuntimeError):  # arrays and tensors in it
            return False

    return _search(cfg, matches)


def _search(cfg: Config | None, matches: Callable[[str, Any], bool]) -> str:
    """The first place whose name and value match; entries of the run come before variables of the config file."""
    content = {} if cfg is None else cfg.to_dict()
    read = [key for key in inspect.signature(Runner).parameters if key in content]
    ordered = {key: content[key] for key in [*read, *(key for key in content if key not in read)]}
    found = (place for place, value in walk(ordered) if place and matches(place.rpartition('.')[2], value))
    return next(found, '')
