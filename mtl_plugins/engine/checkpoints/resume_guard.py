"""Resuming is exact or refused: the facts about a run that must not change in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import DataLoader

from mtl_plugins.errors import UserError

_WORDS = {
    'tasks': 'tasks',
    'method': 'method',
    'world_size': 'number of processes',
    'batch_size': 'batch size per process',
}


class ResumeMismatchError(UserError):
    """A checkpoint of another kind of run was to be resumed from."""


def describe_run(runner: Any) -> dict[str, Any]:
    """Collect what :func:`check_resume_compatibility` compares.

    Args:
        runner: A Runner whose training parts are built.

    Returns:
        dict: ``tasks`` (list of names or None while unknown), ``method``, ``world_size`` and ``batch_size`` (per
        process; None if a batch sampler of its own decides). Plain data, for ``checkpoint['meta']['mtl']``.
    """
    optim_wrapper = runner.optim_wrapper
    tasks = getattr(optim_wrapper, 'task_names', None)
    if tasks is None:
        # The wrapper learns them from the model, which it has not met yet when a checkpoint is loaded.
        tasks = getattr(getattr(runner.model, 'module', runner.model), 'tasks', None)
    method = getattr(optim_wrapper, 'method_name', None)
    return dict(
        tasks=None if tasks is None else list(tasks),
        method=type(optim_wrapper).__name__ if method is None else str(method),
        world_size=int(runner.world_size),
        batch_size=_batch_size(runner.train_dataloader),
    )


def check_resume_compatibility(
    meta_saved: Mapping[str, Any], meta_now: Mapping[str, Any], checkpoint: str = 'the checkpoint'
) -> None:
    """Refuse to resume a run under other conditions than it was started with.

    The number of data workers may differ. A fact that is missing or None on either side is not compared.

    Args:
        meta_saved: ``checkpoint['meta']['mtl']``.
        meta_now: :func:`describe_run` of the present run.
        checkpoint: What the message calls the checkpoint.

    Raises:
        ResumeMismatchError: Naming every difference and the way out.
    """
    differences = []
    for key, words in _WORDS.items():
        saved, now = meta_saved.get(key), meta_now.get(key)
        if saved is not None and now is not None and _comparable(saved) != _comparable(now):
            differences.append(f'{words}: {_show(saved)} in {checkpoint}, {_show(now)} now')
    if differences:
        raise ResumeMismatchError(
            f'cannot resume, since the result would be neither run: {"; ".join(differences)}. Either resume with the '
            'old settings, or start a new run from these weights: drop --resume and set load_from=PATH '
            '(--cfg-options load_from=PATH)'
        )


def _comparable(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _show(value: Any) -> str:
    return '[' + ', '.join(map(str, value)) + ']' if isinstance(value, (list, tuple)) else str(value)


def _batch_size(dataloader: DataLoader | Mapping[str, Any]) -> int | None:
    size = dataloader.get('batch_size') if isinstance(dataloader, Mapping) else dataloader.batch_size
    return None if size is None else int(size)
