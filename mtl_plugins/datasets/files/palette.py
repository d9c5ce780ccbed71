"""Colours for many classes, made by a rule."""

import colorsys

_GOLDEN = 0.618033988749895
_FIRST_HUE = 0.58
_LEVELS = ((0.45, 0.75), (0.80, 0.95), (0.35, 1.0), (0.95, 0.55))
"""Saturation and brightness that successive classes take in turn, so that near hues differ in another way."""


def palette(count: int, background: bool = False) -> list[list[int]]:
    """RGB colours of ``count`` classes; the colours of the first classes do not depend on ``count``.

    Hues advance by the golden ratio, which spreads any number of them evenly.

    Args:
        count: Number of classes.
        background: Make the first class black.
    """
    colours = [[0, 0, 0]] if background else []
    for number in range(count - len(colours)):
        saturation, value = _LEVELS[number % len(_LEVELS)]
        rgb = colorsys.hsv_to_rgb((_FIRST_HUE + number * _GOLDEN) % 1, saturation, value)
        colours.append([round(255 * channel) for channel in rgb])
    return colours
