"""The order in which convolutions keep their numbers in memory."""

from typing import Any

import torch
from mmengine.hooks import Hook

from mtl_plugins.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Keeps weights of convolutions, and with them the maps, with the channels of a pixel side by side in memory.

    The same is computed, up to rounding, and many convolutional networks are faster so. A checkpoint fits with and
    without the hook.
    """

    def before_run(self, runner: Any) -> None:
        """Reorder the weights."""
        runner.model.to(memory_format=torch.channels_last)
