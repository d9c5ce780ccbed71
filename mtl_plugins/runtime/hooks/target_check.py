"""Refuses to go on with targets that mean something else than those a model was trained on."""

import logging
from collections.abc import Sequence
from typing import Any, Literal

from mmengine.hooks import Hook

from mtl_plugins.errors import UserError
from mtl_plugins.registry import HOOKS
from mtl_plugins.runtime.checkpoints.targets import OPTION, target_differences
from mtl_plugins.utils.argument_types import Checked


@HOOKS.register_module()
class TargetCheckHook(Checked, Hook):
    """Compares what the targets mean with what they meant when the checkpoint was trained.

    That is the axes of normals, which pixels count, the order of classes, and what else a dataset names in
    ``metainfo['conventions']``; see :func:`~mtl_plugins.runtime.checkpoints.targets.target_differences`. A test or a
    resumed training on other targets would be scored wrong without a word, and stops here. So does a training whose
    validation set reads its targets in another way than its training set. A new training from old weights
    (``load_from``) learns the new targets and is only warned. :func:`mtl_plugins.config.build_runner` adds the
    hook; other projects name it in ``custom_hooks``.

    Args:
        differing: What to do: ``'raise'``, or ``'warn'`` to go on all the same.

    Raises:
        UserError: If ``differing`` is neither.
    """

    priority = 'NORMAL'

    def __init__(self, differing: Literal['raise', 'warn'] = 'raise') -> None:
        self.differing = differing

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Compare the checkpoint with the dataset of this run.

        Raises:
            UserError: If targets differ, or are not known to be the same.
        """
        training = hasattr(runner.optim_wrapper, 'update_params')  # built; not so in a test run
        meta = (checkpoint.get('meta') or {}).get('dataset_meta')
        source = str(runner._load_from)
        for name in ('train',) if training else ('val', 'test'):
            dataset = _dataset(runner, name)
            if dataset is not None:
                told = target_differences(meta, dataset, f'{name}_dataloader.dataset')
                fresh = training and not runner._resume
                self._tell(runner, f'the targets are not those that {source} was trained on', told, fresh)

    def before_train(self, runner: Any) -> None:
        """Compare the validation set with the training set.

        Raises:
            UserError: If their targets differ.
        """
        train, val = _dataset(runner, 'train'), _dataset(runner, 'val')
        if train is not None and val is not None:
            told = target_differences(train.metainfo, val, 'val_dataloader.dataset')
            self._tell(runner, 'the targets of the validation set are not those of the training set', told)

    def _tell(self, runner: Any, what: str, differences: Sequence[str], only_warn: bool = False) -> None:
        if not differences:
            return
        text = f'{what}: {"; ".join(differences)}'
        if self.differing == 'raise' and not only_warn:
            raise UserError(f'{text}; --cfg-options {OPTION} goes on all the same')
        runner.logger.log(logging.WARNING, text)


def _dataset(runner: Any, name: str) -> Any:
    """The dataset of a loop that is built, if it describes itself."""
    loop = getattr(runner, f'_{name}_loop', None)
    dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
    return dataset if hasattr(dataset, 'metainfo') else None
