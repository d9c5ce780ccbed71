"""Training steps of the methods of the catalogue on one model, and what they cost."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

from mtl_plugins.config.loading import set_method, set_precision
from mtl_plugins.config.refusals import refusals_of
from mtl_plugins.config.start import check_optimizers
from mtl_plugins.config.unavailable import refuse_missing_packages
from mtl_plugins.engine.hooks.class_weights import equal_class_weights
from mtl_plugins.engine.optim_wrappers import SelectiveTaskGroupOptimWrapper, StepOptimWrapper
from mtl_plugins.errors import UserError
from mtl_plugins.experiments.compare import Variant
from mtl_plugins.runtime.memory import tensor_bytes

from .memory import peak_memory
from .timing import Spread, ratio, time_systems


@dataclass
class MethodStep:
    """A method that trains a model on one batch.

    Attributes:
        label: Name in tables.
        model: The model.
        wrapper: Its optimizer wrapper.
        batch: The batch.
    """

    label: str
    model: nn.Module
    wrapper: StepOptimWrapper
    batch: dict[str, Any]

    def __post_init__(self) -> None:
        self.optimizer = self.wrapper.optimizer
        self.forwards: list[float] = []

    def step(self) -> None:
        """Train once."""
        # A preprocessor may pad the targets in place.
        self.model.train_step(copy.deepcopy(self.batch), self.wrapper)
        self.forwards.append(self.wrapper.message_hub.get_scalar('train/forwards').current())


@dataclass(frozen=True)
class MethodCost:
    """What a method costs.

    Attributes:
        name: Name of the method.
        images_per_second: Images over the median time.
        seconds: Wall time of a batch; on a GPU the time on it.
        to_first: Time in units of the first method's, within a round.
        forwards: Mean number of forwards of a batch, with and without graph.
        backwards: Backwards of a batch, those of single tasks counted one by one.
        memory: Peak bytes: weights, buffers, state of the optimizer, and what a step needs beside them.
    """

    name: str
    images_per_second: float
    seconds: Spread
    to_first: Spread
    forwards: float
    backwards: float
    memory: int

    def as_dict(self) -> dict[str, Any]:
        """Ready for :mod:`json`."""
        return asdict(self)


def build_model(cfg: Config, device: torch.device) -> nn.Module:
    """The model of a config in train mode; pretrained weights are not looked for."""
    with refusals_of(cfg):
        model = build_plain(cfg.model)
    equal_class_weights(model)
    return model.to(device).train()


def build_plain(settings: Any) -> nn.Module:
    """The model of its config without SyncBatchNorm and without pretrained weights, so that it runs anywhere."""
    settings = Config(dict(model=settings)).model.to_dict()
    settings.pop('pretrained', None)
    backbone = settings.get('backbone') or {}
    if backbone.get('pretrained'):
        backbone['pretrained'] = False
    refuse_missing_packages(settings)
    model = revert_sync_batchnorm(MODELS.build(settings))
    model.load_state_dict(model.state_dict())  # no backbone waits for others
    return model


def build_steps(
    cfg: Config,
    model: nn.Module,
    variants: Sequence[Variant],
    groups: Sequence[int],
    precision: str | None,
    batch: dict[str, Any],
) -> list[MethodStep]:
    """One step per method, all on the same weights; STGU that follows the affinity once per number of groups.

    Raises:
        ValueError: If a number of groups is larger than the number of tasks.
    """
    steps = []
    for variant in variants:
        wrapper = _build_wrapper(cfg, model, variant, precision)
        if not (isinstance(wrapper, SelectiveTaskGroupOptimWrapper) and wrapper.grouper.follows_affinity):
            steps.append(MethodStep(variant.name, model, wrapper, batch))
            continue
        tasks = _tasks(model, wrapper, batch)
        for count in groups:
            if not 1 <= count <= len(tasks):
                raise UserError(f'--groups: {len(tasks)} tasks make 1 to {len(tasks)} groups, but got {count}')
            dealt = [list(tasks[start::count]) for start in range(count)]
            fixed = {'grouper': dict(type='Fixed', groups=dealt), 'warmup_iters': 0}
            wrapper = _build_wrapper(cfg, model, variant, precision, **fixed)
            steps.append(MethodStep(f'{variant.name}, M={count}', model, wrapper, batch))
    return steps


def measure(steps: Sequence[MethodStep], batch_size: int, rounds: int, advance: Callable[[], None]) -> list[MethodCost]:
    """Time all steps in turn, and take their peak memory.

    Args:
        steps: The steps; the first is what the others are compared with.
        batch_size: Images per batch.
        rounds: Timed steps of each.
        advance: Called ``rounds + 2`` times per step, for a progress bar.
    """
    memory = {}
    for step in steps:
        step.step()  # states of the optimizer, and the first look at the graph
        idle = tensor_bytes([*step.model.parameters(), *step.model.buffers(), dict(step.optimizer.state)])
        memory[step.label] = idle + peak_memory(step)
        advance()
        step.forwards = []
    times = time_systems(steps, rounds, 1, advance)
    first = steps[0]
    clock = 'cuda' if next(first.model.parameters()).is_cuda else 'wall'
    costs = []
    for step in steps:
        seconds = Spread.of([each[clock] for each in times[step.label]])
        costs.append(
            MethodCost(
                step.label,
                batch_size / seconds.median,
                seconds,
                ratio(times, step.label, first.label, clock),
                sum(step.forwards) / len(step.forwards),
                float(step.wrapper.cost_per_batch().backwards),
                memory[step.label],
            )
        )
    return costs


def _build_wrapper(
    cfg: Config, model: nn.Module, variant: Variant, precision: str | None, **settings: Any
) -> StepOptimWrapper:
    cfg = Config(cfg.to_dict())
    set_method(cfg, variant.method)
    cfg.merge_from_dict({f'optim_wrapper.{name}': value for name, value in variant.options.items()})
    if precision is not None:
        set_precision(cfg, precision)
    # Replaced, not merged: the former grouper's arguments are not those of the new one.
    cfg.optim_wrapper.update(settings)
    # The images of several batches would be counted as those of one.
    cfg.optim_wrapper.pop('accumulative_counts', None)
    check_optimizers(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    weighting = getattr(wrapper, 'weighting', None)
    if hasattr(weighting, 'set_epoch_length'):
        weighting.set_epoch_length(100)
    return wrapper


def _tasks(model: nn.Module, wrapper: StepOptimWrapper, batch: dict[str, Any]) -> tuple[str, ...]:
    wrapper.attach(model)
    if wrapper.task_names is None:
        model.train_step(copy.deepcopy(batch), wrapper)
    return wrapper.task_names
