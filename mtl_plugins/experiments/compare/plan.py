"""The runs of a comparison, one by one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mtl_plugins.config.loading import set_method
from mtl_plugins.errors import UserError
from mtl_plugins.experiments.baselines import add_hooks, headline, settle_run, single_task_config
from mtl_plugins.experiments.runs import TrainingRun, comparable, decisive_settings
from mtl_plugins.task_specs import get_task_spec

from .keys import Key, describe_key, label
from .length import stretch
from .records import RecordStore, fingerprint, make_record
from .tuning import hold_out
from .variants import SINGLE, Variant, file_name

START_HOOK = 'mtl_plugins.StartRecordHook'
PANELS_HOOK = 'mtl_plugins.PredictionPanelHook'


class ComparisonRun(TrainingRun):
    """One training of a comparison; its record goes into the store when it ends.

    Args:
        key: What tells it apart.
        variant: The method with its options as they are trained; None for a single-task model.
        cfg: Config of the run.
        root: Folder of all runs.
        store: Where the record goes.
        at: The tuned settings that the config has.
    """

    def __init__(
        self,
        key: Key,
        variant: Variant | None,
        cfg: Config,
        root: Path,
        store: RecordStore,
        at: Mapping[str, Any] | None = None,
    ) -> None:
        settings = file_name(key.at) + '_held_out' * key.tuning
        folder = Path(root, *filter(None, [file_name(key.variant), key.task, settings]), f'seed_{key.seed}')
        super().__init__(describe_key(key), folder, cfg, f'{file_name(key.variant)}_seed_{key.seed}.py')
        self.at = dict(at or {})
        self.key = key
        # Pictures of every validation would take longer than many a training.
        cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks') or [] if hook.get('type') != PANELS_HOOK]
        add_hooks(cfg, START_HOOK)
        self.variant = variant
        self.store = store
        settings = decisive_settings(cfg)
        self.settings, self.comparable = fingerprint(settings), fingerprint(comparable(settings))

    def record(self) -> dict[str, Any] | None:
        """The record in the store, or None.

        Raises:
            ValueError: If the store holds the run with other settings.
        """
        return self.store.get(self.key, self.settings, self.comparable)

    def finished(self) -> bool:
        """Whether the record is there."""
        return self.record() is not None

    def outcome(self) -> str:
        """The headline metrics."""
        last = self.record()['curve'][-1]['metrics']
        return ', '.join(f'{name} {value:.4g}' for name, value in last.items() if value is not None)

    def poll(self) -> bool:
        """See :meth:`TrainingRun.poll`; a failure goes into the store."""
        ended = super().poll()
        if ended and self.error:
            self.store.note_failure(self.key, self.error)
        return ended

    def conclude(self) -> str:
        """Add the record to the store; returns why there is none."""
        problem = super().conclude()
        if not problem:
            method, options = ('gd', {}) if self.variant is None else (self.variant.method, self.variant.options)
            headlines = {entry['metric'] for entry in self.store.header['tasks'].values()}
            record = make_record(self.key, method, options, self.settings, self.folder, headlines, self.at)
            self.store.add({**record, 'comparable': self.comparable, 'session': self.store.session})
        return problem


def comparison_header(cfg: Config, config: str) -> dict[str, Any]:
    """What all runs of a comparison have in common, see :class:`RecordStore`.

    Raises:
        ValueError: If the config has no heads to compare, no validation, or no length.
    """
    tasks = list((cfg.get('model') or {}).get('heads') or {})
    max_iters = (cfg.get('train_cfg') or {}).get('max_iters')
    needed = ('train_dataloader', 'val_dataloader', 'val_evaluator')
    if not tasks or not max_iters or not all(map(cfg.get, needed)):
        raise UserError(
            f'{config} cannot be compared: it needs a model with heads=dict(<task>=...), train_cfg.max_iters, '
            f'{", ".join(needed)}'
        )
    entries = {task: dict(title=get_task_spec(task).title, **headline(cfg, task)) for task in tasks}
    return dict(config=config, tasks=entries, max_iters=max_iters)


def single_task_run(
    cfg: Config,
    task: str,
    seed: int,
    root: Path,
    store: RecordStore,
    at: Mapping[str, Any] | None = None,
    share: float | None = None,
) -> ComparisonRun:
    """The run of a single-task model; see :func:`variant_run`."""
    key = Key(SINGLE, seed, task, label(at or {}), share is not None)
    cfg = single_task_config(cfg if share is None else hold_out(cfg, share), task, seed)
    _set_wrapper(cfg, at or {})
    return ComparisonRun(key, None, cfg, root, store, at)


def variant_run(
    cfg: Config,
    variant: Variant,
    seed: int,
    root: Path,
    store: RecordStore,
    at: Mapping[str, Any] | None = None,
    share: float | None = None,
    factor: float = 1.0,
) -> ComparisonRun:
    """The run of a variant.

    Args:
        cfg: The config that is compared.
        variant: The variant, without references.
        seed: Seed of the run.
        root: Folder of all runs.
        store: Where the record goes.
        at: Entries of ``optim_wrapper`` that are tuned.
        share: Share of the training set that is held out, and scores the run; None trains on all of it.
        factor: How many times as long it is trained.

    Raises:
        ValueError: If the config that comes out is refused.
    """
    key = Key(variant.name, seed, None, label(at or {}), share is not None)
    cfg = Config(cfg.to_dict()) if share is None else hold_out(cfg, share)
    set_method(cfg, variant.method)
    _set_wrapper(cfg, {**variant.settings, **(at or {})})
    if factor != 1:
        stretch(cfg, factor)
    settle_run(cfg, seed)
    return ComparisonRun(key, variant, cfg, root, store, at)


def _set_wrapper(cfg: Config, settings: Mapping[str, Any]) -> None:
    cfg.merge_from_dict({f'optim_wrapper.{name}': value for name, value in settings.items()})
