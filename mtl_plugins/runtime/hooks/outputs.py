"""What a run cannot write, as on a full disk: what it goes on without, and what is an error at its end."""

import contextlib
import errno
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from mtl_plugins.registry import HOOKS

STATE, BEST, METRICS = 'the last state of the training', 'the best model', 'the metrics'
"""What a run must leave; everything else is for looking at."""
_BACKEND_METHODS = ('add_config', 'add_graph', 'add_image', 'add_scalar', 'add_scalars', 'close')


@HOOKS.register_module()
class OutputsHook(Hook):
    """Keeps a run going that cannot write, and ends it with an error if something that counts was lost.

    Checkpoints and metrics are written by hooks that put their failures into :attr:`lost`, and take them out when a
    later attempt succeeds; what is left at the end is raised. Logs and pictures (the log file, the visualizer's
    backends, what hooks of mtl_plugins draw) are left out with one warning each. :class:`SafeCheckpointHook` and
    :class:`MetricsFileHook` add this hook by themselves.

    Attributes:
        lost (dict[str, OSError]): What is lost so far, and why.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.lost: dict[str, OSError] = {}
        self._told: set[str] = set()

    def before_run(self, runner: Any) -> None:
        """Let no log and no picture end the run."""
        self.lost.clear()
        self.before_train(runner)

    def before_train(self, runner: Any) -> None:
        """The same for what was added in between."""
        for name, backend in getattr(runner.visualizer, '_vis_backends', {}).items():
            for method in _BACKEND_METHODS:
                _replace(backend, method, lambda former, name=name: self._forgiving(runner, name, former))
        for handler in runner.logger.handlers:
            _replace(handler, 'handleError', lambda former, handler=handler: self._telling(runner, handler, former))

    def after_run(self, runner: Any) -> None:
        """Raise what was lost.

        Raises:
            OSError: The first of what is in :attr:`lost`.
        """
        for what, error in self.lost.items():
            runner.logger.error(f'The run is at its end, but {what} could not be saved: {error}')
        if self.lost:
            raise next(iter(self.lost.values()))

    def tell(self, runner: Any, what: str, error: OSError) -> None:
        """Warn that ``what`` is not written; once per output."""
        if what not in self._told:
            self._told.add(what)  # first, for the warning itself may go to what cannot be written
            runner.logger.warning(f'{what} cannot be written ({error}); the run goes on without it.')

    def _forgiving(self, runner: Any, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return method(*args, **kwargs)
            except OSError as error:
                self.tell(runner, f'the output of {name}', error)
                return None

        return call

    def _telling(self, runner: Any, handler: logging.Handler, former: Callable[..., Any]) -> Callable[..., Any]:
        def handle_error(record: logging.LogRecord) -> None:
            error = sys.exc_info()[1]
            if isinstance(error, OSError):
                self.tell(runner, f'the log {getattr(handler, "baseFilename", "on the terminal")}', error)
            else:
                former(record)

        return handle_error


def outputs_of(runner: Any) -> OutputsHook:
    """The hook of a runner, registered if there was none."""
    return register_once(runner, OutputsHook)


def register_once(runner: Any, kind: type[Hook]) -> Any:
    """The runner's hook of this class; a new one if there is none."""
    found = next((hook for hook in runner.hooks if isinstance(hook, kind)), None)
    if found is None:
        found = kind()
        runner.register_hook(found)
    return found


def is_last(runner: Any, hook: Hook, kind: type[Hook]) -> bool:
    """Whether no hook of this class comes after ``hook``, so that the files of such hooks are its own."""
    return [each for each in getattr(runner, 'hooks', [hook]) if isinstance(each, kind)][-1] is hook


@contextlib.contextmanager
def going_on_without(runner: Any, path: str | os.PathLike) -> Iterator[None]:
    """Around the writing of something that a run can do without."""
    try:
        yield
    except OSError as error:
        outputs_of(runner).tell(runner, str(path), error)


def append_line(runner: Any, path: Path, line: str) -> None:
    """Append a line to a log that a run can do without; as a whole or not at all."""
    with going_on_without(runner, path), open(path, 'ab', buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        data = f'{line}\n'.encode()
        try:
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            file.truncate(size)
            raise


def _replace(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Give an object a method of its own, around that of its class; a second call renews it."""
    if hasattr(owner, name):
        setattr(owner, name, make(functools.partial(getattr(type(owner), name), owner)))
