"""What a run was made with, written beside its log."""

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook

from mtl_plugins.registry import HOOKS
from mtl_plugins.utils.json_files import read_json
from mtl_plugins.utils.parallel import usable_cores
from mtl_plugins.version import __version__

from .outputs import going_on_without

FILE_NAME = 'environment.json'
_DISTRIBUTIONS = (
    'torch',
    'torchvision',
    'timm',
    'numpy',
    'scipy',
    'scikit-learn',
    'scikit-image',
    'opencv-python',
    'opencv-python-headless',
    'onedl-mmengine',
    'onedl-mmcv',
    'onedl-mmsegmentation',
    'mmengine',
    'mmcv',
    'mmsegmentation',
)
_VARIABLES = ('CUBLAS_WORKSPACE_CONFIG', 'CUDA_VISIBLE_DEVICES', 'MKL_NUM_THREADS', 'OMP_NUM_THREADS', 'PYTHONHASHSEED')


@HOOKS.register_module()
class EnvironmentStampHook(Hook):
    """Writes ``<work_dir>/<timestamp>/environment.json`` before training (first process only).

    It holds the command line, the git commit of the current folder and whether files differ from it, versions, seed,
    hardware (no host name), process and thread counts, and the settings that decide whether a run is reproducible.
    """

    priority = 'LOW'

    @master_only
    def before_train(self, runner: Any) -> None:
        """Write the file."""
        folder = Path(runner.work_dir) / runner.timestamp
        stamp = collect_environment(seed=runner.seed)
        with going_on_without(runner, folder / FILE_NAME):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FILE_NAME).write_text(json.dumps(stamp, indent=2) + '\n', encoding='utf-8')


def collect_environment(seed: int | None = None) -> dict[str, Any]:
    """Describe this process and its machine.

    Args:
        seed: The run's seed.

    Returns:
        dict: Ready for JSON.
    """
    return dict(
        command=shlex.join(getattr(sys, 'orig_argv', None) or [sys.executable, *sys.argv]),
        git=git_state(Path.cwd()),
        mtl_plugins_git=git_state(Path(__file__).parent),
        seed=seed,
        mtl_plugins=__version__,
        python=platform.python_version(),
        packages=_versions(),
        hardware=dict(
            system=f'{platform.system()} {platform.machine()}',
            cpu=_cpu_model(),
            cores=os.cpu_count(),
            usable_cores=usable_cores(),
            gpus=[torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
            cuda=torch.version.cuda,
            cudnn=torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        ),
        world_size=get_world_size(),
        torch_threads=torch.get_num_threads(),
        determinism=dict(
            deterministic_algorithms=torch.are_deterministic_algorithms_enabled(),
            deterministic_warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
            cudnn_deterministic=torch.backends.cudnn.deterministic,
            cudnn_benchmark=torch.backends.cudnn.benchmark,
            float32_matmul_precision=torch.get_float32_matmul_precision(),
        ),
        variables={name: os.environ[name] for name in _VARIABLES if name in os.environ},
    )


def last_stamp(folder: Path) -> dict[str, Any]:
    """What the last start of the run in ``folder`` was made with; empty if nothing is known of it."""
    stamps = sorted(folder.glob(f'*/{FILE_NAME}'))
    return read_json(stamps[-1]) if stamps else {}


def commit_of(stamp: Mapping[str, Any], letters: int | None = None) -> str:
    """The commit of mtl_plugins, not that of the folder in which the run was started, in words."""
    git = stamp.get('mtl_plugins_git') or {}
    return f'{git.get("commit", "unknown")[:letters]}{" with changes" if git.get("dirty") else ""}'


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the repository that ``folder`` is in, and whether tracked files differ from it.

    Returns:
        dict | None: ``dict(commit=..., dirty=...)``; None outside a repository, without git, or
            before the first commit.
    """
    commit = _git(folder, 'rev-parse', 'HEAD')
    if commit is None:
        return None
    changes = _git(folder, 'status', '--porcelain', '--untracked-files=no')
    return dict(commit=commit, dirty=None if changes is None else bool(changes))


def _git(folder: Path, *arguments: str) -> str | None:
    # No optional locks: a run must not disturb the git commands that its user runs meanwhile.
    command = ['git', '--no-optional-locks', *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    try:
        for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
