"""Names, indices and colours of the classes of Rooms."""

from ..human_parts import HUMAN_PARTS

CLASSES = (
    'wall', 'floor', 'ceiling', 'window', 'picture', 'table', 'chair', 'cabinet', 'sofa', 'lamp', 'ornament', 'person',
)  # fmt: skip
PALETTE = [
    [174, 199, 232], [152, 110, 80], [225, 225, 225], [60, 180, 245], [250, 190, 60], [140, 60, 150],
    [214, 60, 60], [120, 140, 60], [30, 130, 110], [255, 240, 110], [250, 120, 190], [40, 60, 160],
]  # fmt: skip
UNLABELLED = 255
"""Cartons are in the images but not labelled."""

LABEL = {name: index for index, name in enumerate(CLASSES)} | {'carton': UNLABELLED}
PART = {name: index for index, name in enumerate(HUMAN_PARTS)}
