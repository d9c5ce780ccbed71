"""Random number generators across stops: the same dropout masks after a resume as without the stop."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import CheckpointHook, Hook

from mtl_plugins.registry import HOOKS

CHECKPOINT_KEY = 'mtl_rng'


def get_rng_state() -> dict[str, Any]:
    """Read this process's generators: torch on the CPU and on the current GPU, NumPy and Python.

    Returns:
        dict: Tensors, numbers and strings only. ``cuda`` is there only if this process uses a GPU.
    """
    version, words, gauss = random.getstate()
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002 - the generator that transforms use
    state = dict(
        torch=torch.get_rng_state(),
        python=dict(version=version, words=torch.tensor(words, dtype=torch.int64), gauss=gauss),
        numpy=dict(
            bit_generator=str(legacy['bit_generator']),
            key=torch.from_numpy(legacy['state']['key'].astype(np.int64)),
            pos=int(legacy['state']['pos']),
            has_gauss=int(legacy['has_gauss']),
            gauss=float(legacy['gauss']),
        ),
    )
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Set what :func:`get_rng_state` read; its tensors may have been moved to a GPU by the load."""
    torch.set_rng_state(state['torch'].cpu().to(torch.uint8))
    python = state['python']
    random.setstate((python['version'], tuple(python['words'].tolist()), python['gauss']))
    numpy = state['numpy']
    np.random.set_state(  # noqa: NPY002
        dict(
            bit_generator=numpy['bit_generator'],
            state=dict(key=numpy['key'].cpu().numpy().astype(np.uint32), pos=numpy['pos']),
            has_gauss=numpy['has_gauss'],
            gauss=numpy['gauss'],
        )
    )
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu().to(torch.uint8))


@HOOKS.register_module()
class RNGStateHook(Hook):
    """Stores every process's generators in the checkpoint and puts them back when resuming.

    The states are those after the saved iteration. They are collected from all processes before the save, which only
    the first process makes, and put back right before the first iteration after a resume, whatever building the data
    loader has drawn until then. So a resumed run is exact if nothing draws from these generators between two
    iterations: random transforms belong into ``mtl_plugins.SeededTransforms``.

    Validation and tests run on their own stretch of random numbers: afterwards the generators are as they were before.

    States are collected when a ``CheckpointHook`` is about to save, when a hook with a method
    ``save_requested(runner)`` says so, at the end of an epoch, and before validation. Code that calls
    ``runner.save_checkpoint`` on its own in a run of several processes calls :meth:`collect` on all of them first.
    """

    gathers_state = True
    priority = 85  # after whatever draws numbers in after_train_iter, before CheckpointHook (90)

    def __init__(self) -> None:
        self._collected: tuple[int, list[dict]] | None = None
        self._to_restore: dict | None = None
        self._outside: dict | None = None

    def collect(self, runner: Any, iterations: int | None = None) -> None:
        """Collect the generators' states of all processes, and what an optimizer wrapper of ours has spread over them.

        A collective call.

        Args:
            runner: The runner.
            iterations: How many iterations are complete; default ``runner.iter``.
        """
        self._collected = (runner.iter if iterations is None else iterations, all_gather_object(get_rng_state()))
        gather = getattr(getattr(runner, 'optim_wrapper', None), 'gather_state', None)
        if gather is not None:
            gather()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """After a resume, put the generators back."""
        if self._to_restore is not None:
            set_rng_state(self._to_restore)
            self._to_restore = None

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Collect if a checkpoint of this iteration is about to be saved."""
        if _save_is_due(runner):
            self.collect(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Any) -> None:
        """Collect for checkpoints that are saved by epoch."""
        self.collect(runner)

    def before_val(self, runner: Any) -> None:
        """Collect for a checkpoint of the best model, and keep the training's random numbers aside."""
        if self._to_restore is not None:
            set_rng_state(self._to_restore)  # a validation that is made up before the first iteration
        if _is_training(runner):
            self.collect(runner)
        self._outside = get_rng_state()

    def after_val(self, runner: Any) -> None:
        """Go back to the training's random numbers."""
        if self._outside is not None:
            set_rng_state(self._outside)
            self._outside = None

    before_test = before_val
    after_test = after_val

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Add the collected states; no communication happens here, since only the first process saves."""
        iterations = checkpoint['meta']['iter']
        if self._collected is None or self._collected[0] != iterations:
            if get_world_size() > 1:
                runner.logger.warning(
                    f'The checkpoint of iteration {iterations} holds no random number states, so resuming from it is '
                    'not exact: RNGStateHook.collect(runner) was not called on all processes before the save.'
                )
                return
            self._collected = (iterations, [get_rng_state()])
        checkpoint[CHECKPOINT_KEY] = dict(version=1, iter=iterations, ranks=self._collected[1])

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """When resuming, take this process's state out of the checkpoint, and the seed of the sampler."""
        if not runner._resume:
            return
        # Without a seed in the config MMEngine drew one for the sampler before it saw the checkpoint.
        sampler, seed = getattr(runner.train_dataloader, 'sampler', None), checkpoint.get('meta', {}).get('seed')
        if seed is not None and getattr(sampler, 'seed', None) == runner.seed:
            sampler.seed = seed
        ranks = checkpoint.get(CHECKPOINT_KEY, {}).get('ranks', [])
        if len(ranks) == get_world_size():
            self._to_restore = ranks[get_rank()]
        else:
            runner.logger.warning(
                f'The checkpoint holds random number states of {len(ranks)} processes, this run has '
                f'{get_world_size()}: random numbers go on from the seed, so the resumed run is not exact.'
            )


def _is_training(runner: Any) -> bool:
    return not isinstance(runner._train_loop, dict) and runner._train_loop is not None


def _save_is_due(runner: Any) -> bool:
    """Whether some hook will save a checkpoint after the running iteration; the same answer in every process."""
    due = False
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and not hook.by_epoch:
            due |= hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
            due |= hook.save_last and hook.is_last_train_iter(runner)
        elif hasattr(hook, 'save_requested'):
            due |= hook.save_requested(runner)  # may communicate, so it is asked in any case
    return due
