"""Where the parts of a run are built from a config: what MMEngine refuses there is the user's to mend."""

import inspect
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mmengine.config import Config

from mtl_plugins.errors import UserError, UserFileNotFoundError, kind_for, message_of

from .hints import classes_named, entry_in_config, hint_for, where_in_config
from .readers import arguments_of

_HANDED_ON = ('mmengine', 'torch.optim', 'torch.utils.data', 'multiprocessing', 'logging')
"""Packages that get entries of the config without anything of ours or of the user's model in between."""


@contextmanager
def refusals_of(cfg: Config) -> Iterator[None]:
    """Inside, parts are built from ``cfg`` and used: makes a :class:`UserError` of what is refused because of it.

    That is so where the config has the very entry that the message complains of, and where only MMEngine, or torch's
    optimizers and data loaders to which it hands entries unchanged, took part. All else passes as it is, above all what
    is raised by a line of ours: that is a fault of ours, whatever its text. A file that is missing where an entry of
    the config has it is told with that entry.

    Raises:
        UserError: See above.
    """
    try:
        yield
    except FileNotFoundError as error:
        advice = hint_for(error, cfg)
        if isinstance(error, UserError) or not advice:
            raise
        raise UserFileNotFoundError(f'{error.filename} does not exist', advice=advice) from error
    except (UserError, OSError):
        raise
    except Exception as error:
        own = _refusal(error, cfg)
        if own is None:
            raise
        raise own from error


def _refusal(error: Exception, cfg: Config) -> UserError | None:
    # MMEngine's hooks replace a TypeError by another one and hide the first.
    hidden = error.__context__ if error.__suppress_context__ else None
    if isinstance(hidden, UserError):
        return hidden
    if _raised_by_us(error):
        return None
    if not _refuses_an_entry(error, cfg) and not all(map(_only_handed_on, filter(None, (error, hidden)))):
        return None
    text, advice = message_of(error), hint_for(error, cfg)
    place = '' if advice else _place(error, cfg)
    return kind_for(error)(f'the config cannot be used: {place}{text}', advice=advice)


def _place(error: BaseException, cfg: Config) -> str:
    """The innermost entry of the config that MMEngine held when it raised, with a colon behind; it may not be known."""
    for frame in reversed(_frames(error)):
        if _module(frame).startswith('mmengine.'):
            held = [value for value in frame.f_locals.values() if isinstance(value, dict) and value]
            place = max((entry_in_config(cfg, value) for value in held), key=len, default='')
            if place:
                return f'{place}: '
    return ''


def _raised_by_us(error: BaseException) -> bool:
    """Whether a line of ours raised it, apart from those that hand a part's arguments on to its base class."""
    frames = _without_constructors(error, 'mtl_plugins.')
    return bool(frames) and _module(frames[-1]).startswith('mtl_plugins.')


def _refuses_an_entry(error: BaseException, cfg: Config) -> bool:
    """Whether a registry does not know the class of an entry of the config, or the class not its arguments."""
    frames = _without_constructors(error)
    if not isinstance(error, KeyError | TypeError) or not frames or not _module(frames[-1]).startswith('mmengine.reg'):
        return False
    entry = frames[-1].f_locals.get('cfg')
    kind = entry.get('type') if isinstance(entry, dict) else None
    if kind is None and frames[-1] is _frames(error)[-1]:  # an entry that names no class
        return True
    if not isinstance(kind, str | type) or not (
        where_in_config(cfg, str(kind)) or entry_in_config(cfg, entry, completed=True)
    ):
        return False
    if frames[-1] is _frames(error)[-1]:
        return True
    # A constructor raised it for whatever reason, or handed arguments on that are too many or too few.
    arguments = {name: each for cls in classes_named(kind) for name, each in arguments_of(cls).items()}
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = {name for name, each in arguments.items() if each.default is each.empty and each.kind not in free}
    return bool({*entry} - {*arguments, 'type'} or needed - {*entry, 'self'})


def _without_constructors(error: BaseException, package: str = '') -> list[FrameType]:
    """The frames of an error up to the innermost one that is no constructor, of a class in ``package``."""
    frames = _frames(error)
    while frames and frames[-1].f_code.co_name == '__init__' and _module(frames[-1]).startswith(package):
        frames.pop()
    return frames


def _frames(error: BaseException) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _module(frame: FrameType) -> str:
    return frame.f_globals.get('__name__', '')


def _only_handed_on(error: BaseException) -> bool:
    if not isinstance(error, ValueError | TypeError | KeyError | AttributeError | AssertionError):
        return False
    modules = [_module(frame) for frame in _frames(error)]
    between = modules[modules.index(__name__) + 2 :] if __name__ in modules else modules
    return all(name.startswith(tuple(f'{package}.' for package in _HANDED_ON)) for name in between)
