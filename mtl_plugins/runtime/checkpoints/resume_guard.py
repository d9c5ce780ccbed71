"""Resuming is exact or refused: the facts about a run that must not change in between."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader

from mtl_plugins.errors import UserError

from .fitting import load_weights, weights_of
from .optimizer_settings import differences, group_settings, method_differences, settings_in_state, wrapper_settings

_WORDS = {
    'tasks': 'tasks',
    'method': 'method',
    'world_size': 'number of processes',
    'batch_size': 'batch size per process',
    'loop': 'what train_cfg counts',
    'seed': 'random seed',
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
    former = getattr(optim_wrapper, 'former_method_name', method)
    return dict(
        tasks=None if tasks is None else list(tasks),
        # Earlier versions named methods by classes; what they wrote is compared by that name.
        method=type(optim_wrapper).__name__ if method is None else str(former),
        world_size=int(runner.world_size),
        batch_size=_batch_size(runner.train_dataloader),
        **({} if method is None else dict(method_key=str(method))),
    )


def describe_settings(runner: Any) -> dict[str, Any]:
    """The same of facts that came later: ``loop``, ``seed`` (None if the config has none) and ``optimizers``."""
    return dict(loop=_counts(runner.train_loop), seed=_configured_seed(runner), optimizers=describe_optimizers(runner))


def describe_optimizers(runner: Any) -> dict[str, dict[str, Any]]:
    """What the optimizers were built with: plain data by name, ``''`` where there is one alone."""
    return {
        name: {**wrapper_settings(wrapper), 'groups': group_settings(wrapper.optimizer.param_groups)}
        for name, wrapper in optimizers_of(runner).items()
    }


def optimizers_of(runner: Any) -> dict[str, Any]:
    """The optimizer wrappers of a run by name, ``''`` where there is one alone."""
    wrapper = runner.optim_wrapper
    return dict(wrapper.items()) if isinstance(wrapper, OptimWrapperDict) else {'': wrapper}


def checkpoint_differences(runner: Any, checkpoint: Mapping[str, Any], saved: Mapping[str, Any] | None) -> list[str]:
    """Why a run cannot go on from a checkpoint, in words; see :func:`optimizer_differences`."""
    return [
        *place_differences(checkpoint.get('meta', {})),
        *optimizer_differences(runner, checkpoint, saved),
        *model_differences(runner, checkpoint),
    ]


def optimizer_differences(runner: Any, checkpoint: Mapping[str, Any], saved: Mapping[str, Any] | None) -> list[str]:
    """Where the optimizers of a checkpoint contradict the settings of this run, in words.

    Args:
        runner: A Runner whose optimizers are built, with nothing loaded yet.
        checkpoint: The checkpoint, whose states tell where ``saved`` is None.
        saved: :func:`describe_optimizers` of the run that saved it.
    """
    states = checkpoint.get('optimizer')
    if not states:
        return ['optimizer: no state in the checkpoint, which holds weights alone']
    found = []
    for name, wrapper in optimizers_of(runner).items():
        state = states.get(name) if name else states
        if state is None:
            found.append(f'optim_wrapper.{name}: not in the checkpoint')
            continue
        known = {**settings_in_state(state), **((saved or {}).get(name) or {})}
        words = [*differences(known, wrapper), *method_differences(known, wrapper)]
        found += [f'{name}: {text}' for text in words] if name else words
    return found


def place_differences(meta: Mapping[str, Any]) -> list[str]:
    """What a checkpoint does not tell of the place in its run, in words; ``meta`` is that of MMEngine."""
    places = {name: meta.get(name) for name in ('iter', 'epoch')}
    wrong = {name: place for name, place in places.items() if type(place) is not int or place < 0}
    return [f'meta.{name}: {place!r} in the checkpoint, which is no number of {name}s' for name, place in wrong.items()]


def model_differences(runner: Any, checkpoint: Mapping[str, Any]) -> list[str]:
    """Where the model of a run is not the one of a checkpoint, so that weights would stay random, in words.

    Args:
        runner: A Runner whose model is built; the weights are loaded into it.
        checkpoint: The checkpoint.
    """
    model = getattr(runner.model, 'module', runner.model)
    fit, parameters = load_weights(model, weights_of(checkpoint)), dict(model.named_parameters())
    words = [f'model: no {name} in the checkpoint' for name in fit.new if name in parameters]
    words += [
        f'model: {name} has {saved} in the checkpoint, {now} now' for name, (saved, now) in fit.mismatched.items()
    ]
    return words[:3]


def check_resume_compatibility(
    meta_saved: Mapping[str, Any],
    meta_now: Mapping[str, Any],
    checkpoint: str = 'the checkpoint',
    further: Sequence[str] = (),
) -> None:
    """Refuse to resume a run under other conditions than it was started with.

    The number of data workers may differ. A fact that is missing or None on either side is not compared.

    Args:
        meta_saved: ``checkpoint['meta']['mtl']``.
        meta_now: :func:`describe_run` of the present run.
        checkpoint: What the message calls the checkpoint.
        further: Differences that were found elsewhere, in words.

    Raises:
        ResumeMismatchError: Naming every difference and the way out.
    """
    differences: list[str] = []
    for key, words in _WORDS.items():
        saved, now = meta_saved.get(key), meta_now.get(key)
        if saved is not None and now is not None and _comparable(saved) != _comparable(now):
            if key == 'method':
                saved, now = _method(meta_saved), _method(meta_now)
            differences.append(f'{words}: {_show(saved)} in {checkpoint}, {_show(now)} now')
    differences += further
    if differences:
        raise ResumeMismatchError(
            f'cannot resume, since the result would be neither run: {"; ".join(differences)}. Either resume with the '
            'old settings, or start a new run from these weights: drop --resume and set load_from=PATH '
            '(--cfg-options load_from=PATH)'
        )


def _method(meta: Mapping[str, Any]) -> str:
    from mtl_plugins.engine.method_keys import key_of_former  # the engine knows this module

    return meta.get('method_key') or key_of_former(meta['method'])


def _comparable(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _show(value: Any) -> str:
    return '[' + ', '.join(map(str, value)) + ']' if isinstance(value, (list, tuple)) else str(value)


def _batch_size(dataloader: DataLoader | Mapping[str, Any]) -> int | None:
    size = dataloader.get('batch_size') if isinstance(dataloader, Mapping) else dataloader.batch_size
    return None if size is None else int(size)


def _counts(loop: Any) -> str | None:
    kinds = {EpochBasedTrainLoop: 'epochs', IterBasedTrainLoop: 'iterations'}
    return next((word for kind, word in kinds.items() if isinstance(loop, kind)), None)


def _configured_seed(runner: Any) -> int | None:
    """The seed of the config; without any, MMEngine draws one, and takes over that of the checkpoint on resume."""
    cfg = getattr(runner, '_randomness_cfg', None) or (getattr(runner, 'cfg', None) or {}).get('randomness') or {}
    return cfg.get('seed')
