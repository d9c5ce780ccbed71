"""The error for what a user can mend."""

from __future__ import annotations


class UserError(ValueError):
    """What the user can mend: a wrong value, file, or combination of settings.

    Its message is one sentence that names the thing, what was expected, what came, and what to do. Commands print it
    without a traceback; every other exception is a fault of ours and keeps its traceback.
    """
