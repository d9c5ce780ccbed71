"""The six parts of people, as PASCAL-Context and Rooms have them."""

import numpy as np

from mtl_plugins.task_specs import IGNORE_INDEX

HUMAN_PARTS = ('background', 'head', 'torso', 'upper_arm', 'lower_arm', 'upper_leg', 'lower_leg')
HUMAN_PALETTE = [
    [0, 0, 0], [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0],
]  # fmt: skip


def ignored_without_parts(target: np.ndarray) -> np.ndarray:
    """The rule of PASCAL-Context: a map without any part says nothing about people, so all of it is ignored.

    Args:
        target: ``(H, W)`` uint8; 0 for no part, 255 for not labelled. It is not changed.
    """
    shows_people = ((target != 0) & (target != IGNORE_INDEX)).any()
    return target if shows_people else np.full_like(target, IGNORE_INDEX)
