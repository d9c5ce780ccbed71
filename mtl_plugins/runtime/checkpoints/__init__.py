"""Checkpoints that survive kills, load without running code, and are resumed from exactly or not at all."""

from .atomic_backend import (
    BACKEND_NAME,
    AtomicLocalBackend,
    CheckpointWriteError,
    write_atomically,
)
from .fitting import CheckpointMismatchError
from .loaders import register_safe_loaders, safe_loading
from .newest import NoLoadableCheckpointError, find_newest_loadable, why_not_resumable
from .plain_state import NotPlainError, from_plain, to_plain
from .resume_guard import ResumeMismatchError, check_resume_compatibility, describe_run
from .safe_load import (
    CorruptCheckpointError,
    UnsafeCheckpointError,
    safe_torch_load,
    trust_checkpoints,
)

__all__ = [
    'BACKEND_NAME',
    'AtomicLocalBackend',
    'CheckpointMismatchError',
    'CheckpointWriteError',
    'CorruptCheckpointError',
    'NoLoadableCheckpointError',
    'NotPlainError',
    'ResumeMismatchError',
    'UnsafeCheckpointError',
    'check_resume_compatibility',
    'describe_run',
    'find_newest_loadable',
    'from_plain',
    'register_safe_loaders',
    'safe_loading',
    'safe_torch_load',
    'to_plain',
    'trust_checkpoints',
    'why_not_resumable',
    'write_atomically',
]
