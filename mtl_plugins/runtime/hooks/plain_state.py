"""The last hook before a checkpoint is written: plain data is all that a file holds."""

from typing import Any

from mmengine.hooks import Hook

from mtl_plugins.registry import HOOKS
from mtl_plugins.runtime.checkpoints import NotPlainError, to_plain


@HOOKS.register_module()
class PlainStateHook(Hook):
    """Turns a checkpoint into plain data right before it is written; :class:`SafeCheckpointHook` adds it by itself.

    It has to come after every other hook's ``before_save_checkpoint``, so it is registered last with the lowest
    priority. Objects without a plain form are left out of the message hub and the meta data with a warning; anywhere
    else they are an error, since something would silently not be resumed.
    """

    priority = 'LOWEST'
    _FORGIVING = ('message_hub', 'meta')

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Replace the contents of ``checkpoint``, which is a collection made for this save."""
        if 'param_schedulers' in checkpoint:
            checkpoint['param_schedulers'] = _without_functions(checkpoint['param_schedulers'])
        for key, value in list(checkpoint.items()):
            try:
                checkpoint[key] = to_plain(value, f'[{key!r}]')
            except NotPlainError:
                if key not in self._FORGIVING:
                    raise
                checkpoint[key] = self._without_objects(runner, value, f'[{key!r}]')

    def _without_objects(self, runner: Any, value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            return to_plain(value, where)
        kept = type(value)()
        for key, item in value.items():
            try:
                kept[key] = to_plain(item, f'{where}[{key!r}]')
            except NotPlainError as error:
                if where == "['message_hub']":  # one level deeper are the entries
                    kept[key] = self._without_objects(runner, item, f'{where}[{key!r}]')
                else:
                    runner.logger.warning(f'{error}. It is left out of this checkpoint.')
        return kept


def _without_functions(states: Any) -> Any:
    """States of schedulers without the functions that some hold (OneCycleLR): a newly built one has its own."""
    if isinstance(states, dict):
        return {key: _without_functions(item) for key, item in states.items() if not callable(item)}
    return [_without_functions(item) for item in states] if isinstance(states, list) else states
