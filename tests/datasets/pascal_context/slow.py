"""Slow and obvious implementations to compare with."""

import numpy as np


def laplacian_edges(labels):
    """Where the sum of the four neighbours differs from four times the pixel; the border is mirrored without it."""
    height, width = labels.shape
    edges = np.zeros((height, width), bool)

    def at(row, column):
        row, column = abs(row), abs(column)
        row = 2 * (height - 1) - row if row >= height else row
        column = 2 * (width - 1) - column if column >= width else column
        return int(labels[row, column])

    for row in range(height):
        for column in range(width):
            around = at(row - 1, column) + at(row + 1, column) + at(row, column - 1) + at(row, column + 1)
            edges[row, column] = around != 4 * at(row, column)
    return edges


def thinned(mask):
    """Guo and Hall's two half-steps, written down pixel by pixel."""
    mask = np.pad(mask.astype(bool), 1)
    changed = True
    while changed:
        changed = False
        for odd in (True, False):
            gone = [(r, c) for r, c in zip(*np.nonzero(mask)) if _may_go(mask, r, c, odd)]
            for r, c in gone:
                mask[r, c] = False
            changed |= bool(gone)
    return mask[1:-1, 1:-1]


def _may_go(mask, r, c, odd):
    east, northeast, north, northwest = mask[r, c + 1], mask[r - 1, c + 1], mask[r - 1, c], mask[r - 1, c - 1]
    west, southwest, south, southeast = mask[r, c - 1], mask[r + 1, c - 1], mask[r + 1, c], mask[r + 1, c + 1]
    around = [east, northeast, north, northwest, west, southwest, south, southeast, east]
    crossings = sum(not around[i] and (around[i + 1] or around[i + 2]) for i in (0, 2, 4, 6))
    if crossings != 1:
        return False
    first = sum(around[i] or around[i + 1] for i in (0, 2, 4, 6))
    second = sum(around[i + 1] or around[i + 2] for i in (0, 2, 4, 6))
    if not 2 <= min(first, second) <= 3:
        return False
    if odd:
        return not ((northeast or north or not southeast) and east)
    return not ((southwest or south or not northwest) and west)


def painted(objects, part_ids, person, shape):
    """Pixel by pixel: the last part in the file that covers it."""
    target = np.zeros(shape, np.uint8)
    for row in range(shape[0]):
        for column in range(shape[1]):
            for item in objects:
                for part in item.parts if item.class_index == person else ():
                    if part.mask[row, column]:
                        target[row, column] = part_ids[part.name]
    return target
