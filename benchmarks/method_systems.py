"""Training steps of multi-task methods: ours, written by hand, and those of other libraries, on one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl_plugins.engine.optim_wrappers import GradientAggregationOptimWrapper, MultiTaskOptimWrapper
from mtl_plugins.engine.step.parameters import parameters_behind
from mtl_plugins.methods.aggregation import MGDA

from .systems import build_optimizer
from .workload import Workload

FAMO_DECAY = 1e-3


@dataclass(frozen=True)
class MethodSystem:
    """A model with the method that trains it.

    Attributes:
        label: Name in tables.
        family: What it costs at least: ``'sum'``, ``'probe'`` (one more forward), ``'features'``, ``'rows'`` or
            ``'gramian'`` (their products alone are kept; one more backward).
        model: The model.
        optimizer: Its optimizer.
        step: Trains on the batch once.
    """

    label: str
    family: str
    model: nn.Module
    optimizer: Optimizer
    step: Callable[[], Any]

    @property
    def is_ours(self) -> bool:
        """Whether the package's engine makes the step."""
        return not self.label.startswith(('by hand', 'torchjd', 'libmtl'))


class Parts:
    """Losses and parameters of the model, as somebody takes them who writes a step by hand."""

    def __init__(self, model: nn.Module, batch: dict[str, Any]) -> None:
        self.model, self.batch = model, batch
        used = parameters_behind(sum(self.losses()))
        self.shared = [p for p in model.backbone.parameters() if id(p) in used]
        self.own = [[p for p in head.parameters() if id(p) in used] for head in model.heads.values()]
        self.sizes = [p.numel() for p in self.shared]

    def losses(self) -> list[Tensor]:
        """The losses of a new forward."""
        out = self.model(**self.model.data_preprocessor(self.batch, True), mode='loss')
        return [out[f'{task}.loss'] for task in self.model.tasks]

    def losses_and_features(self) -> tuple[list[Tensor], Tensor]:
        """The losses, and what all heads take in."""
        seen: list[Tensor] = []
        handle = self.model.decoder.register_forward_hook(lambda module, inputs, output: seen.append(output))
        losses = self.losses()
        handle.remove()
        return losses, seen[0]

    def write(self, update: Tensor) -> None:
        """Make ``update`` the gradient of the shared parameters."""
        for parameter, part in zip(self.shared, update.split(self.sizes)):
            parameter.grad = part.view_as(parameter)


MakeOptimizer = Callable[[nn.Module], Optimizer]

# Ours: family, wrapper, options.
OURS: dict[str, tuple[str, type, dict[str, Any]]] = {
    'gd': ('sum', MultiTaskOptimWrapper, {}),
    'uw': ('sum', MultiTaskOptimWrapper, dict(weighting=dict(type='UncertaintyWeighting', initial=-0.5))),
    'famo': ('probe', MultiTaskOptimWrapper, dict(weighting=dict(type='FAMO', gamma=FAMO_DECAY))),
    'mgda features': (
        'features', GradientAggregationOptimWrapper,
        dict(aggregator=dict(type='MGDA'), level='features', features='decoder', rescale=None),
    ),
    'mgda': ('rows', GradientAggregationOptimWrapper, dict(aggregator=dict(type='MGDA'), rescale=None)),
    'upgrad': ('rows', GradientAggregationOptimWrapper, dict(aggregator=dict(type='UPGrad'), rescale=None)),
    'upgrad gramian': (
        'gramian', GradientAggregationOptimWrapper,
        dict(aggregator=dict(type='UPGrad'), rescale=None, memory='gramian'),
    ),
    'pcgrad': ('rows', GradientAggregationOptimWrapper, dict(aggregator=dict(type='PCGrad'))),
    'mean': ('rows', GradientAggregationOptimWrapper, dict(aggregator=dict(type='Mean'), rescale=None)),
}  # fmt: skip


def build_ours(
    name: str, work: Workload, batch: dict[str, Any], make_optimizer: MakeOptimizer = build_optimizer, **options: Any
) -> MethodSystem:
    """A system of :data:`OURS`; ``options`` replace some of its own."""
    family, wrapper_type, defaults = OURS[name]
    model = work.build_model()
    wrapper = wrapper_type(make_optimizer(model), seed=0, **{**defaults, **options})
    return MethodSystem(name, family, model, wrapper.optimizer, lambda: model.train_step(batch, wrapper))


def build_hand(
    features: bool, work: Workload, batch: dict[str, Any], make_optimizer: MakeOptimizer = build_optimizer
) -> MethodSystem:
    """The mean of K rows at the parameters, or MGDA with one backward from the features: what such a step needs."""
    model = work.build_model()
    optimizer, parts = make_optimizer(model), Parts(model, batch)
    step = _feature_step if features else _row_step
    label, family = ('by hand, features', 'features') if features else ('by hand, K rows', 'rows')
    return MethodSystem(label, family, model, optimizer, lambda: _stepped(optimizer, lambda: step(parts)))


def _row_step(parts: Parts) -> None:
    losses = parts.losses()
    rows = torch.empty(len(losses), sum(parts.sizes), device=losses[0].device)
    for row, loss, own in zip(rows, losses, parts.own):
        gradients = torch.autograd.grad(loss, [*parts.shared, *own], retain_graph=loss is not losses[-1])
        torch.cat([gradient.reshape(-1) for gradient in gradients[: len(parts.shared)]], out=row)
        for parameter, gradient in zip(own, gradients[len(parts.shared) :]):
            parameter.grad = gradient
    parts.write(rows.mean(0))


def _feature_step(parts: Parts) -> None:
    losses, features = parts.losses_and_features()
    rows = torch.empty(len(losses), features.numel(), device=features.device)
    for row, loss, own in zip(rows, losses, parts.own):
        gradients = torch.autograd.grad(loss, [features, *own], retain_graph=True)
        row.copy_(gradients[0].reshape(-1))
        for parameter, gradient in zip(own, gradients[1:]):
            parameter.grad = gradient
    features.backward(MGDA()(rows).view_as(features))


def _stepped(optimizer: Optimizer, make_gradients: Callable[[], Any]) -> None:
    make_gradients()
    optimizer.step()
    optimizer.zero_grad()


# ------------------------------------------------------------------ other libraries
TORCHJD_UPGRAD = ('upgrad', 'upgrad chunk=1', 'upgrad gramian', 'upgrad gramian chunk=1')
"""All rows at once (the default) or one by one; ``gramian``: the products parameter by parameter, which keeps no matrix
of the rows."""


def torchjd_upgrads(work: Workload) -> tuple[str, ...]:
    """TorchJD's ways to UPGrad on a network.

    ``autogram`` keeps no rows and takes one more backward. It needs parameters that lie in modules whose ``forward``
    runs, which the position embedding of the ViT does not.
    """
    return (*TORCHJD_UPGRAD, 'upgrad autogram') if 'type' in work.backbone else TORCHJD_UPGRAD


def build_torchjd(
    method: str,
    torchjd: SimpleNamespace,
    work: Workload,
    batch: dict[str, Any],
    make_optimizer: MakeOptimizer = build_optimizer,
    precise: bool = False,
) -> MethodSystem:
    """TorchJD's UPGrad by one of :data:`TORCHJD_UPGRAD`, or FAMO.

    ``precise`` gives UPGrad the products of the rows in float64, where it makes them of all rows in one piece.
    """
    model = work.build_model()
    optimizer, parts = make_optimizer(model), Parts(model, batch)
    if method == 'famo':
        famo = torchjd.famo(len(parts.own), weight_decay=FAMO_DECAY).to(work.device)

        def step() -> None:
            _stepped(optimizer, lambda: famo(torch.stack(parts.losses())).backward())
            with torch.no_grad():
                famo.update(torch.stack(parts.losses()))

        return MethodSystem('torchjd famo', 'probe', model, optimizer, step)

    by_blocks = 'gramian' in method
    aggregator, chunk = torchjd.upgrad(precise and not by_blocks), 1 if method.endswith('chunk=1') else None
    engine = torchjd.engine(model.backbone, batch_dim=None) if 'autogram' in method else None

    def make_gradients() -> None:
        if engine is not None:
            losses = torch.stack(parts.losses())
            weights = aggregator.gramian_weighting(engine.compute_gramian(losses))
            own = [parameter for each in parts.own for parameter in each]
            gradients = torch.autograd.grad(losses.sum(), own, retain_graph=True)
            losses.backward(weights, inputs=parts.shared)
            for parameter, gradient in zip(own, gradients):
                parameter.grad = gradient
            return
        losses, features = parts.losses_and_features()
        torchjd.mtl_backward(
            losses, features, tasks_params=parts.own, shared_params=parts.shared, parallel_chunk_size=chunk
        )
        torchjd.jac_to_grad(parts.shared, aggregator, optimize_gramian_computation=by_blocks)

    return MethodSystem(f'torchjd {method}', 'rows', model, optimizer, lambda: _stepped(optimizer, make_gradients))


def build_libmtl(
    method: str,
    libmtl: SimpleNamespace,
    work: Workload,
    batch: dict[str, Any],
    make_optimizer: MakeOptimizer = build_optimizer,
    precise: bool = False,
) -> MethodSystem:
    """LibMTL's ``'PCGrad'`` or ``'UW'``, with the step of its trainer.

    ``precise`` gives PCGrad the rows in float64.
    """
    model = work.build_model()
    parts = Parts(model, batch)

    class Weighting(getattr(libmtl.weighting, method)):
        """What LibMTL's architectures add to a weighting, for our model."""

        task_num, device, rep_grad = len(parts.own), torch.device(work.device), False

        def get_share_params(self) -> Iterator[nn.Parameter]:
            return iter(parts.shared)

        def zero_grad_share_params(self) -> None:
            # To zeros, as torch 1 did: with None, which its encoders get since torch 2, LibMTL's next line fails.
            for parameter in parts.shared:
                parameter.grad.zero_()

        def _compute_grad(self, *args: Any, **kwargs: Any) -> Tensor:
            rows = super()._compute_grad(*args, **kwargs)
            return rows.double() if precise else rows

        def _reset_grad(self, new_grads: Tensor) -> None:
            super()._reset_grad(new_grads.float())

    weighting = Weighting()
    weighting.init_param()
    optimizer = make_optimizer(nn.ModuleList([model, weighting]))

    def step() -> None:
        losses = torch.stack(parts.losses())
        optimizer.zero_grad()
        weighting.backward(losses)
        optimizer.step()

    family = 'rows' if method == 'PCGrad' else 'sum'
    return MethodSystem(f'libmtl {method.lower()}', family, model, optimizer, step)


def flat_gradient(system: MethodSystem) -> Callable[[], list[Tensor]]:
    """Watch the optimizer; the returned function gives the model's gradients at each step so far, in float64."""
    seen: list[Tensor] = []
    parameters: Sequence[nn.Parameter] = list(system.model.parameters())

    def look(*_: Any) -> None:
        flat = [(torch.zeros_like(p) if p.grad is None else p.grad).detach().double().reshape(-1) for p in parameters]
        seen.append(torch.cat(flat))

    system.optimizer.register_step_pre_hook(look)
    return lambda: seen
