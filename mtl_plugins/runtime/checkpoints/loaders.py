"""Safe replacements for MMEngine's checkpoint loaders, scheme by scheme (see :mod:`.safe_load` for why).

Nothing is replaced by an import: another project loads its own runs as it always did. Our commands load inside
:func:`safe_loading`.
"""

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.dist import barrier, get_dist_info
from mmengine.fileio import get_file_backend
from mmengine.runner import checkpoint as stock
from mmengine.runner.checkpoint import CheckpointLoader
from torch.hub import download_url_to_file, get_dir

from mtl_plugins.errors import UserError, UserFileNotFoundError, UserKeyError

from .safe_load import safe_torch_load, trust_checkpoints


@contextlib.contextmanager
def safe_loading(trusted: bool = False) -> Iterator[None]:
    """Inside, every load through MMEngine's :class:`CheckpointLoader` is a safe one; afterwards all is as before.

    Args:
        trusted: Whether checkpoints may run code nevertheless, see :class:`.safe_load.trust_checkpoints`.
    """
    before = dict(CheckpointLoader._schemes)
    register_safe_loaders()
    try:
        with trust_checkpoints() if trusted else contextlib.nullcontext():
            yield
    finally:
        CheckpointLoader._schemes = before


def register_safe_loaders() -> None:
    """Make every load through MMEngine's :class:`CheckpointLoader` a safe one, for the rest of the process.

    May be called again. :func:`safe_loading` does it for a while.
    """
    for prefixes, loader in (
        ('', load_from_local),
        (('http://', 'https://'), load_from_http),
        ((r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), load_from_ceph),
        (('modelzoo://', 'torchvision://'), load_from_torchvision),
        (('open-mmlab://', 'openmmlab://'), load_from_openmmlab),
        ('mmcls://', load_from_mmcls),
        ('pavi://', load_from_pavi),
    ):
        CheckpointLoader.register_scheme(prefixes=prefixes, loader=loader, force=True)


# MMEngine logs the loader's name from its 11th character on, hence ``load_from_*``.
def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Load a local file; see :func:`.safe_load.safe_torch_load`."""
    path = os.path.expanduser(filename)
    if not os.path.isfile(path):
        raise UserFileNotFoundError(f'no checkpoint at {path}: check load_from / the CHECKPOINT argument')
    return _checked(safe_torch_load(path, map_location), path)


def load_from_http(filename: str, map_location: Any = None, model_dir: str | None = None) -> Any:
    """Download once (rank 0 first) into torch's hub folder and load it; see :func:`.safe_load.safe_torch_load`."""
    folder = model_dir or os.path.join(get_dir(), 'checkpoints')
    path = os.path.join(folder, os.path.basename(filename.split('?')[0].split('#')[0]))
    rank, _ = get_dist_info()
    if rank == 0 and not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        # It downloads to a temporary file and renames it, so an interrupted download leaves nothing behind.
        download_url_to_file(filename, path, progress=os.isatty(0))
    barrier()
    if not os.path.exists(path):  # other machines of the job have their own disk
        os.makedirs(folder, exist_ok=True)
        download_url_to_file(filename, path, progress=False)
    name = f'{filename} (downloaded to {path})'
    return _checked(safe_torch_load(path, map_location, name=name), name)


def load_from_ceph(filename: str, map_location: Any = None, backend: str = 'petrel') -> Any:
    """Load from Ceph/S3; see :func:`.safe_load.safe_torch_load`."""
    data = get_file_backend(filename, backend_args={'backend': backend}).get(filename)
    return _checked(safe_torch_load(io.BytesIO(data), map_location, name=filename), filename)


def load_from_torchvision(filename: str, map_location: Any = None) -> Any:
    """Load weights that torchvision publishes, by their name in ``torchvision.models``."""
    return load_from_http(_look_up(stock.get_torchvision_models(), filename), map_location)


def load_from_openmmlab(filename: str, map_location: Any = None) -> Any:
    """Load weights that OpenMMLab publishes, by their name in MMEngine's table."""
    name = filename.split('://', 1)[1]
    name = stock.get_deprecated_model_names().get(name, name)
    target = _look_up(stock.get_external_models(), f'open-mmlab://{name}')
    if target.startswith(('http://', 'https://')):
        return load_from_http(target, map_location)
    return load_from_local(os.path.join(stock._get_mmengine_home(), target), map_location)


def load_from_mmcls(filename: str, map_location: Any = None) -> Any:
    """Load the backbone of a classification model that OpenMMLab publishes."""
    checkpoint = load_from_http(_look_up(stock.get_mmcls_models(), filename), map_location)
    weights = checkpoint.get('state_dict', checkpoint)
    prefix = 'backbone.'
    return dict(state_dict={k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)})


def load_from_pavi(filename: str, map_location: torch.device | str | None = None) -> Any:
    """Refuse: this private service has no safe loader."""
    raise UserError(f'cannot load {filename}: pavi:// is not supported. Download the file and give its local path')


_PARTS = dict(meta=Mapping, optimizer=Mapping, message_hub=Mapping, param_schedulers=list | Mapping)


def _checked(content: Any, name: str) -> Mapping[str, Any]:
    """Refuse what MMEngine would stumble over: a file that holds something else than names and values."""
    state = content.get('state_dict', content) if isinstance(content, Mapping) else content
    odd = [key for key in state if not isinstance(key, str)] if isinstance(state, Mapping) else [state]
    if odd:
        place = ' under state_dict' if state is not content else ''
        found = f'a dict with the key {odd[0]!r}' if isinstance(state, Mapping) else type(state).__name__
        raise UserError(f'{name} holds no weights: expected a dict of names and tensors{place}, but found {found}')
    for part, kinds in _PARTS.items() if 'state_dict' in content else ():
        if not isinstance(content.get(part, None), kinds | None):
            raise UserError(f'{name} is no checkpoint of MMEngine: its {part} is a {type(content[part]).__name__}')
    return content


def _look_up(table: dict[str, str], filename: str) -> str:
    name = filename.split('://', 1)[1]
    if name not in table:
        raise UserKeyError(f'unknown model {name!r} in {filename}; known: {", ".join(sorted(table))}')
    return table[name]
