"""What a run began with and in which order it saw its samples, as hashes that tell whether two runs share it."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from mtl_plugins.registry import HOOKS
from mtl_plugins.runtime.checkpoints import write_atomically

from .outputs import going_on_without

FILE_NAME = 'start.json'
_STATE = 'mtl_start'
"""Key in the message hub."""


@HOOKS.register_module()
class StartRecordHook(Hook):
    """Writes ``<work_dir>/start.json``: ``{"weights": "5f0c...", "samples": {"1": "91a4...", "2": ..., "4": ...}}``.

    ``weights`` is a hash of the model before its first step; ``samples`` has one of all samples that the first process
    saw up to the iterations 1, 2, 4, 8 and so on, by their places in the dataset and the names of their files. Two runs
    saw the same samples in the same order as far as these agree, however long each is. A resumed run goes on with what
    its checkpoint holds. Batches that do not name their samples leave ``samples`` empty.
    """

    priority = 'LOW'  # after hooks that set up the model, before the checkpoint

    def __init__(self) -> None:
        self._weights: str | None = None
        self._chain = ''
        self._samples: dict[str, str] = {}

    def before_train(self, runner: Any) -> None:
        """Take the hash of the weights, or what the checkpoint holds."""
        state = runner.message_hub.runtime_info.get(_STATE) if runner.iter > 0 else None
        self._weights, self._chain, self._samples = None, '', {}
        if state:
            self._weights, self._chain, self._samples = state['weights'], state['chain'], dict(state['samples'])
        elif runner.iter == 0 and is_main_process():
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            self._weights = hash_of_weights(model)
        self._write(runner)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Add the samples of a batch."""
        if self._weights is None:
            return
        names = list(_names(data_batch))
        if names:
            self._chain = _hash([self._chain.encode(), json.dumps(names).encode()])
            count = runner.iter + 1
            if count & (count - 1) == 0:
                self._samples[str(count)] = self._chain
                self._write(runner)
        state = dict(weights=self._weights, chain=self._chain, samples=dict(self._samples))
        runner.message_hub.update_info(_STATE, state)

    def _write(self, runner: Any) -> None:
        if self._weights is not None and is_main_process():
            content = dict(weights=self._weights, samples=self._samples)
            path = Path(runner.work_dir) / FILE_NAME
            with going_on_without(runner, path):
                write_atomically(json.dumps(content).encode(), path)


def hash_of_weights(model: nn.Module) -> str:
    """A hash of all tensors of a model, with their names."""
    parts: list[bytes] = []
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):
            raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            parts += [name.encode(), hashlib.blake2b(raw.numpy().data).digest()]
    return _hash(parts)


def _hash(parts: Iterable[bytes]) -> str:
    found = hashlib.blake2b(digest_size=8)
    for part in parts:
        found.update(part)
    return found.hexdigest()


def _names(batch: Any) -> Iterable[tuple[int, str]]:
    """Place in the dataset and file name of each sample of a batch, as far as the samples tell them."""
    samples = batch.get('data_samples') if isinstance(batch, dict) else None
    for sample in samples if isinstance(samples, list | tuple) else ():
        index, path = getattr(sample, 'sample_idx', None), getattr(sample, 'img_path', None)
        if index is not None or path is not None:
            yield (-1 if index is None else int(index)), PurePath(str(path or '')).name
