"""Checkpoints that survive kills, load without running code, and are resumed from exactly or not at all."""

from mtl_plugins.methods.exports import on_demand

from . import atomic_backend  # noqa: F401  (registers the backend)

__getattr__, __all__ = on_demand(
    __name__,
    {
        'atomic_backend': 'AtomicLocalBackend BACKEND_NAME CheckpointWriteError write_atomically',
        'fitting': 'CheckpointMismatchError',
        'loaders': 'register_safe_loaders safe_loading',
        'newest': 'NoLoadableCheckpointError find_newest_loadable why_not_resumable',
        'plain_state': 'NotPlainError from_plain to_plain',
        'resume_guard': 'ResumeMismatchError check_resume_compatibility describe_run',
        'safe_load': 'CorruptCheckpointError UnsafeCheckpointError safe_torch_load trust_checkpoints',
    },
)
