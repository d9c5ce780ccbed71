"""Every repair of the OpenMMLab stack that mtl_plugins needs: small, idempotent, tested. Nothing else patches it.

An import of ``mtl_plugins`` adds two names to the packages whose configs can be inherited from, and changes nothing
else: another project that imports it behaves as before. The other repairs are made by our commands, for themselves.

``onedl-mmengine``, ``onedl-mmcv`` and ``onedl-mmsegmentation`` are the maintained continuation of ``mmengine``,
``mmcv`` and ``mmsegmentation`` under the same import names, so both families must never be installed side by side.
"""

import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from mtl_plugins.errors import UserError

INSTALL_LINE = 'pip install "mtl-plugins[openmmlab]"'
_STACK = ('mmengine', 'mmcv', 'mmseg')
_ORIGINALS = ('mmengine', 'mmcv', 'mmcv-lite', 'mmsegmentation')


def missing_packages() -> tuple[str, ...]:
    """Import names of the OpenMMLab stack that are not installed."""
    return tuple(name for name in _STACK if not is_installed(name))


def is_installed(name: str) -> bool:
    """Whether there is such a module, which is not imported for that."""
    try:
        return find_spec(name) is not None
    # No package above it, an import hook forbids the module, or a half-made one is in sys.modules.
    except (ImportError, ValueError):
        return False


def original_packages() -> tuple[str, ...]:
    """Distributions of the original (unmaintained) family that are installed."""
    found = []
    for name in _ORIGINALS:
        try:
            version(name)
        except PackageNotFoundError:
            continue
        found.append(name)
    return tuple(found)


def missing_stack_message(missing: tuple[str, ...]) -> str:
    """The one message about an absent stack: what is missing, how to install it, and what works without it."""
    return (
        f'mtl_plugins needs the OpenMMLab stack, but {", ".join(missing)} cannot be imported. Install it with:\n'
        f'    {INSTALL_LINE}\n'
        'Only mtl_plugins.methods (the pure multi-task methods) works without it.'
    )


def check_stack() -> bool:
    """Whether the OpenMMLab stack can be imported; warns once if it is absent or is the original family."""
    missing = missing_packages()
    if missing:
        warnings.warn(
            missing_stack_message(missing),
            ImportWarning if os.environ.get('MTL_PLUGINS_QUIET') else UserWarning,
            stacklevel=3,
        )
        return False
    originals = original_packages()
    if originals:
        warnings.warn(
            f'mtl_plugins is tested with the onedl-* distributions, but found {", ".join(originals)}. To switch: '
            f'pip uninstall {" ".join(originals)}, then {INSTALL_LINE} '
            '(never install both: they own the same import packages)',
            UserWarning,
            stacklevel=3,
        )
    return True


def repair_stack() -> None:
    """Apply the repairs that our commands need; :func:`let_bases_resolve` alone is what an import does."""
    let_bases_resolve()
    _silence_missing_operators()
    _keep_debug_messages_from_stdout()


def let_bases_resolve() -> None:
    """Make ``_base_ = 'mmseg::...'`` and ``'mtl_plugins::...'`` resolve.

    MMEngine maps the scope to the distribution ``mmsegmentation``, which onedl-mmsegmentation is not named, and uses
    the value both to check the installation and to find the package folder: the import name serves both.
    """

    def add_names(utils: ModuleType) -> None:
        if 'mmsegmentation' not in original_packages():
            utils.MODULE2PACKAGE['mmseg'] = 'mmseg'
        utils.MODULE2PACKAGE['mtl_plugins'] = 'mtl_plugins'

    _once_imported('mmengine.config.utils', add_names)


def _once_imported(name: str, repair: Callable[[ModuleType], None]) -> None:
    """Repair a module now if it is imported, else when it is: importing it for this alone would load torch."""
    if name in sys.modules:
        repair(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Repair(name, repair))


class _Repair(MetaPathFinder):
    def __init__(self, name: str, repair: Callable[[ModuleType], None]) -> None:
        self._name, self._repair = name, repair

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self._repair(module)

            spec.loader.exec_module = exec_module  # of this import alone: a spec has a loader of its own
        return spec


def _silence_missing_operators() -> None:
    """Drop mmcv's warning about an operator that a build without compiled ones cannot have, and nothing here uses."""
    warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeformableAttention``', UserWarning)


def _keep_debug_messages_from_stdout() -> None:
    """Let ``print_log`` without a logger respect the level of the message.

    It prints whatever the level, so importing mmseg.datasets put two debug messages (``Could not import OneDL``, an
    optional dataset service) on the stdout of every command.
    """

    def respect_levels(mmengine_logging: ModuleType) -> None:
        original = mmengine_logging.print_log
        if hasattr(original, '__wrapped__'):  # done before
            return

        @functools.wraps(original)
        def print_log(msg: Any, logger: Any = None, level: int = logging.INFO) -> None:
            if logger is not None or level > logging.DEBUG:
                original(msg, logger, level)

        mmengine_logging.print_log = print_log

    _once_imported('mmengine.logging', respect_levels)


def prepare_cpu_ddp(cfg: Any, launcher: str) -> None:
    """Make DDP work on CPU under the Runner; does nothing without a launcher or with CUDA.

    MMEngine's ``init_dist`` calls ``torch.cuda.set_device`` whatever the backend, and ``wrap_model`` passes
    ``device_ids=[LOCAL_RANK]``, which DDP refuses for CPU modules. So the process group is made here (the Runner then
    skips its own), and the model wrapper gets an explicit ``device_ids=None``.

    Of ``env_cfg.dist_cfg``, everything but the names of backends holds here too, ``timeout`` (seconds) above all.

    Args:
        cfg: The run's config; ``model_wrapper_cfg`` is completed in place.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        ValueError: If ``launcher`` is not ``'pytorch'`` on a machine without CUDA, or
            ``timeout`` is no number of seconds.
    """
    import torch
    import torch.distributed as dist

    settings = _group_settings(cfg) if launcher != 'none' else {}
    if launcher == 'none' or torch.cuda.is_available():
        return
    if launcher != 'pytorch':
        raise UserError(
            f"launcher='{launcher}' needs CUDA; on CPU use launcher='pytorch' (bash tools/dist_train.sh CONFIG N)"
        )
    if not dist.is_initialized():
        from mtl_plugins.runtime.hooks.preemption import close_gloo_at_exit

        dist.init_process_group('gloo', **settings)
        close_gloo_at_exit()
    wrapper = dict(cfg.get('model_wrapper_cfg') or dict(type='MMDistributedDataParallel'))
    wrapper.setdefault('device_ids', None)
    wrapper.setdefault('broadcast_buffers', False)
    cfg.model_wrapper_cfg = wrapper


def _group_settings(cfg: Any) -> dict[str, Any]:
    """What ``env_cfg.dist_cfg`` says about a process group of gloo."""
    settings = dict((cfg.get('env_cfg') or {}).get('dist_cfg') or {})
    for name in ('backend', 'init_backend', 'port'):
        settings.pop(name, None)
    timeout = settings.get('timeout')
    if timeout is None:
        settings.pop('timeout', None)
    elif isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < float('inf'):
        raise UserError(f'env_cfg.dist_cfg.timeout must be a number of seconds above 0, but got {timeout!r}')
    else:
        settings['timeout'] = timedelta(seconds=timeout)
    return settings
