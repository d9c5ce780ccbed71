"""Errors for what a user can mend. A command prints them in one line; every other exception keeps its traceback."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """What the user can mend: a wrong value, file, or combination of settings.

    Its message is one sentence that names the thing, what was expected, what came, and what to do. Commands print it
    without a traceback; every other exception is a fault of ours and keeps its traceback. The subclasses below are the
    same for callers that expect one of Python's other classes.

    Args:
        *args: The message.
        advice: What to do about it, where that is a sentence of its own; commands print it on a second line.
    """

    def __init__(self, *args: object, advice: str = '') -> None:
        super().__init__(*args)
        self.advice = advice


class UserTypeError(UserError, TypeError):
    """A setting of the wrong type."""


class UserKeyError(UserError, KeyError):
    """A name that does not exist."""

    __str__ = BaseException.__str__  # KeyError would put quotation marks around the sentence


class UserRuntimeError(UserError, RuntimeError):
    """Something that turned out to be impossible with what the user gave only when it was tried."""


class UserFileNotFoundError(UserError, FileNotFoundError):
    """A file or folder that does not exist."""


class UserFileExistsError(UserError, FileExistsError):
    """A file or folder that is in the way."""


class UserOSError(UserError, OSError):
    """A file that cannot be written, or a place that cannot hold it."""


class UserImportError(UserError, ModuleNotFoundError):
    """A package that is not installed."""


_SAME = (
    (KeyError, UserKeyError),
    (TypeError, UserTypeError),
    (FileNotFoundError, UserFileNotFoundError),
    (FileExistsError, UserFileExistsError),
    (ImportError, UserImportError),
    (RuntimeError, UserRuntimeError),
)


@contextmanager
def refusing(what: str = '') -> Iterator[None]:
    """Inside, a value of the user is handed to code that knows no :class:`UserError`, and what that refuses is theirs.

    Args:
        what: The setting whose value is handed over; it begins the message.

    Raises:
        UserError: For a ValueError, TypeError or KeyError; it is of that class too.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        text = message_of(error)
        if isinstance(error, UserError) and (not what or text.startswith(what)):
            raise
        advice = getattr(error, 'advice', '')
        raise kind_for(error)(f'{what}: {text}' if what else text, advice=advice) from error


def kind_for(error: BaseException) -> type[UserError]:
    """The :class:`UserError` that callers who expect the class of ``error`` catch, too."""
    return next((own for kind, own in _SAME if isinstance(error, kind)), UserError)


def message_of(error: BaseException) -> str:
    """The message of an error, without the quotation marks that a ``KeyError`` puts around it."""
    text = str(error.args[0]) if isinstance(error, KeyError) and len(error.args) == 1 else str(error)
    return text.strip() or type(error).__name__
