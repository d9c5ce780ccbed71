"""Backends of the Visualizer beside those of MMEngine, and which of them want pictures.

TensorBoard needs nothing of ours: ``type='TensorboardVisBackend'``.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.visualization import LocalVisBackend, MLflowVisBackend, Visualizer, WandbVisBackend
from mmengine.visualization.vis_backend import BaseVisBackend, force_init_env

from mtl_plugins.registry import VISBACKENDS
from mtl_plugins.utils.argument_types import Checked


def picture_services(visualizer: Visualizer) -> list[BaseVisBackend]:
    """The backends that shall get pictures: all but the local one, since the hooks write the same files themselves."""
    return [backend for backend in visualizer._vis_backends.values() if not isinstance(backend, LocalVisBackend)]


@VISBACKENDS.register_module()
class WandbBackend(Checked, WandbVisBackend):
    """Weights & Biases, with the iteration as the x axis.

    MMEngine's own backend counts calls instead, so that curves of one run do not line up, and sends every ``.py`` file
    below the current folder.

    Args:
        save_dir: Folder for the files of the run.
        init_kwargs: Arguments of ``wandb.init``; ``mode='offline'`` sends nothing.
        define_metric_cfg: Arguments of ``wandb.define_metric``; by default everything is drawn over ``iter``.
        log_code_name: Name of an artifact with the ``.py`` files below the current folder; None sends none.
        **kwargs: See :class:`mmengine.visualization.WandbVisBackend`.
    """

    def __init__(
        self,
        save_dir: str,
        init_kwargs: dict[str, Any] | None = None,
        define_metric_cfg: dict[str, str] | Sequence[dict[str, Any]] | None = None,
        log_code_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if define_metric_cfg is None:
            define_metric_cfg = [dict(name='iter'), dict(name='*', step_metric='iter')]
        super().__init__(save_dir, init_kwargs, define_metric_cfg, log_code_name=log_code_name, **kwargs)

    @force_init_env
    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Record the config."""
        if self._log_code_name is not None:
            super().add_config(config, **kwargs)
        else:
            self._wandb.config.update(config.to_dict(), allow_val_change=True)

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Record an RGB picture ``(H, W, 3)`` of iteration ``step``."""
        self._wandb.log({name: self._wandb.Image(image), 'iter': step}, commit=self._commit)

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Record a number of iteration ``step``."""
        self.add_scalars({name: value}, step)

    @force_init_env
    def add_scalars(
        self, scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Record numbers of iteration ``step``."""
        self._wandb.log({**scalar_dict, 'iter': step}, commit=self._commit)


@VISBACKENDS.register_module()
class MLflowBackend(Checked, MLflowVisBackend):
    """MLflow, in a data base file where ``mlflow ui`` looks for it, unless a server is named.

    MMEngine's own backend keeps plain files by default, which MLflow >= 3.7 refuses; and it stops the run at a picture,
    since MLflow wants to know its format, and drops metrics whose names MLflow does not take.

    Args:
        save_dir: Folder for the files of the run.
        tracking_uri: Address of a server, or ``sqlite:///FILE``; by default the environment variable
            ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` in the current folder.
        **kwargs: See :class:`mmengine.visualization.MLflowVisBackend`.
    """

    def __init__(self, save_dir: str, tracking_uri: str | None = None, **kwargs: Any) -> None:
        uri = tracking_uri or os.environ.get('MLFLOW_TRACKING_URI') or f'sqlite:///{Path("mlflow.db").resolve()}'
        super().__init__(save_dir, tracking_uri=uri, **kwargs)

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Record an RGB picture ``(H, W, 3)`` of iteration ``step`` as ``<name>/<step>.png``."""
        self._mlflow.log_image(image, f'{metric_name(name)}/{step:06d}.png')

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Record a number of iteration ``step``."""
        super().add_scalar(metric_name(name), value, step, **kwargs)

    def add_scalars(
        self, scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Record numbers of iteration ``step``."""
        super().add_scalars({metric_name(name): value for name, value in scalar_dict.items()}, step, **kwargs)


def metric_name(name: str) -> str:
    """A name as MLflow takes it: ``affinity/a->b`` becomes ``affinity/a to b``."""
    return re.sub(r'[^\w\-. :/]', '_', name.replace('->', ' to '))
