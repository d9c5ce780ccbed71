"""``--log-to``: services that keep the logs of runs, beside the files in the work dir."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl_plugins.errors import UserError, UserImportError

if TYPE_CHECKING:
    from mmengine.config import Config

SERVICES = ('tensorboard', 'wandb', 'mlflow')
"""Names for ``--log-to``; each is also the package that it needs, and the extra that installs it."""


def log_to(cfg: Config, services: Sequence[str]) -> None:
    """Add the backends of ``services`` to the visualizer of a config; runs are named after their work dir.

    Raises:
        ValueError: If there is no such service.
        ModuleNotFoundError: If the package of a service is not installed.
    """
    unknown = [name for name in services if name not in SERVICES]
    if unknown:
        raise UserError(f'--log-to takes {", ".join(SERVICES)}, but got {", ".join(unknown)}')
    missing = [name for name in services if find_spec(name) is None]
    if missing:
        raise UserImportError(
            f'--log-to {",".join(services)} needs {", ".join(missing)}: pip install "mtl-plugins[{",".join(missing)}]"'
        )
    if not services:
        return
    visualizer = dict(cfg.get('visualizer') or dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]))
    backends = [_backend(name, Path(cfg.work_dir).name) for name in services]
    visualizer['vis_backends'] = [*(visualizer.get('vis_backends') or []), *backends]
    cfg.visualizer = visualizer


def _backend(service: str, run: str) -> dict[str, Any]:
    if service == 'tensorboard':
        return dict(type='mmengine.TensorboardVisBackend')
    if service == 'wandb':
        project = os.environ.get('WANDB_PROJECT', 'mtl_plugins')
        return dict(type='mtl_plugins.WandbBackend', init_kwargs=dict(project=project, name=run))
    experiment = os.environ.get('MLFLOW_EXPERIMENT_NAME', 'mtl_plugins')
    return dict(type='mtl_plugins.MLflowBackend', exp_name=experiment, run_name=run)
