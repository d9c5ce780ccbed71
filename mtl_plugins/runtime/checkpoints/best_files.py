"""The files of best models that are in a folder, and how good each was."""

import re
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process

from .plain_state import from_plain
from .safe_load import safe_torch_load


def settle_best(hook: Any, runner: Any) -> list[str]:
    """Make the best model of all in the folder the known one of a ``CheckpointHook`` with ``save_best``; all processes.

    A killed run may have left files that its checkpoint does not know of.

    Returns:
        list[str]: The files that are worse, for the first process to remove. Those that do not say how good they are
        stay.
    """
    worse: list[str] = []
    single = len(hook.key_indicators) == 1
    info = runner.message_hub.runtime_info
    for key in hook.key_indicators:
        score_name, file_name = (f'best_{part}' if single else f'best_{part}_{key}' for part in ('score', 'ckpt'))
        best, score = info.get(file_name), info.get(score_name)
        for path in best_files(hook.out_dir, key, hook.filename_tmpl) if is_main_process() else ():
            if best is not None and path.name == Path(best).name:
                continue
            found = score_of(path, score_name)
            if found is None:
                runner.logger.warning(f'{path} is left alone, since it does not say how good it is.')
                continue
            loser = str(path)
            if score is None or hook.is_better_than[key](found, score):
                loser, best, score = best, str(path), found
                runner.logger.info(f'The best model so far, which a killed run left, is {path}.')
            if loser is not None:
                runner.logger.info(f'{loser} is removed, for {best} is as good or better.')
                worse.append(loser)
        decision = [best, score]
        broadcast_object_list(decision)
        for name, value in zip((file_name, score_name), decision):
            if value is not None:
                runner.message_hub.update_info(name, value)
        if single:
            hook.best_ckpt_path = decision[0]
        else:
            hook.best_ckpt_path_dict[key] = decision[0]
    return worse


def best_files(folder: str | Path, key: str, template: str) -> list[Path]:
    """The files that ``CheckpointHook`` saved as the best by one metric, in the order of their names.

    Args:
        folder: Where checkpoints are.
        key: Name of the metric, such as ``'depth/RMSE'``.
        template: Name of a checkpoint with ``{}`` for the number, such as ``'iter_{}.pth'``.
    """
    name = re.escape(f'best_{key}_'.replace('/', '_'))
    pattern = re.compile(name + r'\d+'.join(map(re.escape, template.split('{}'))))
    return sorted(path for path in Path(folder).glob('best_*') if path.is_file() and pattern.fullmatch(path.name))


def score_of(path: Path, name: str) -> Any:
    """The score of a best model, which its message hub has as ``name``; None if it is not there or cannot be read."""
    try:
        return from_plain(safe_torch_load(path, 'cpu'))['message_hub']['runtime_info'][name]
    except Exception:  # whatever is wrong with it, it is no file to go on with
        return None


def forget_best(runner: Any, checkpoint: dict[str, Any]) -> None:
    """Take the best score and its file out of ``checkpoint``, which is about to be loaded: they are of another kind."""
    info = checkpoint.get('message_hub', {}).get('runtime_info', {})
    for key in [key for key in info if key.startswith(('best_score', 'best_ckpt'))]:
        del info[key]
    runner.logger.warning(
        'save_best or its rule has changed: the best of before is left out of account, and its file stays'
    )


class DeferredRemoval:
    """A file backend that hands removals to ``remove_later`` and everything else to ``backend``."""

    def __init__(self, backend: Any, remove_later: Any) -> None:
        self._backend = backend
        self.remove = remove_later
        self.rmtree = remove_later

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)
