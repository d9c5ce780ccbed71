"""Compiling parts of a model for training."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch._functorch.config
import torch.compiler.config
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import nn

from mtl_plugins.errors import UserError, refusing
from mtl_plugins.methods.naming import near_matches
from mtl_plugins.registry import HOOKS

EACH = '.*'
"""End of a name that stands for every part below it."""
KEEPS_BUFFERS = ' mtl_plugins: several backwards'
"""Tag of code in the caches of torch.compile."""


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles parts of the model in place, by ``module.compile()``, before the first training batch.

    A training step with several forwards and backwards cannot be compiled as a whole; the backbone, which takes most of
    the time, can, or each of its blocks, which compile once for all of the same shape. Names of weights, and so
    checkpoints, stay as they are. Validation runs the compiled parts, too.

    Args:
        parts: Names of parts, as in ``model.named_modules()``; ``'backbone.vit.blocks.*'`` is each block.
        **options: What ``torch.compile`` takes: ``backend``, ``mode``, ``dynamic``, ``fullgraph``, ``options``.

    Raises:
        UserError: Before training, if the model has no such part; after the first batch, if a part was never called, so
            that compiling it changes nothing.
    """

    priority = 'VERY_LOW'  # after hooks that change the model

    def __init__(self, parts: Sequence[str] = ('backbone',), **options: Any) -> None:
        self.parts = (parts,) if isinstance(parts, str) else tuple(parts)
        self.options = options
        self._uncalled: dict[str, tuple[nn.Module, Callable]] = {}

    def before_train(self, runner: Any) -> None:
        """Compile."""
        # A graph that one method goes back through once may serve another, or a measurement, that goes back again.
        torch._functorch.config.donated_buffer = False
        # Inductor's cache on disk does not ask for that setting: without a tag, code that overwrites what a second
        # backward needs would be taken from it.
        if KEEPS_BUFFERS not in torch.compiler.config.cache_key_tag:
            torch.compiler.config.cache_key_tag += KEEPS_BUFFERS
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for name, module in self._chosen(model):
            with refusing('CompileHook'):
                module.compile(**self.options)
            self._uncalled[name] = (module, module._compiled_call_impl)
            module._compiled_call_impl = self._noting(name)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """After the first batch: has every part been called?"""
        if self._uncalled:
            names, self._uncalled = list(self._uncalled), {}
            raise UserError(
                f'CompileHook: {", ".join(names[:3])} of the model is not called as a whole in a training step (its '
                'parts are, or nothing of it), so that compiling it changes nothing; name the part around it, such as '
                "'backbone', or each of its parts, such as 'backbone.vit.blocks.*'"
            )

    def _noting(self, name: str) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            module, compiled = self._uncalled.pop(name)
            module._compiled_call_impl = compiled
            return compiled(*args, **kwargs)

        return call

    def _chosen(self, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        modules = dict(model.named_modules())
        for part in self.parts:
            above = part.removesuffix(EACH)
            if above not in modules or not above:
                near = near_matches(above, [name for name in modules if name])
                raise UserError(f'CompileHook: the model has no part {above!r}: {near}')
            if above == part:
                yield part, modules[part]
            else:
                yield from ((f'{above}.{name}', module) for name, module in modules[above].named_children())
