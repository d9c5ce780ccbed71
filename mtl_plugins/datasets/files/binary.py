"""Maps of 8 bits that say yes or no, by 0 and 255 or by 0 and 1."""

import numpy as np

THRESHOLD = 127
"""The largest value of "no" where 255 is "yes"."""


def marked(values: np.ndarray) -> np.ndarray:
    """The pixels of "yes", as 0 or 1 in uint8; a map without any value above 1 is one of 0 and 1."""
    return (values > (THRESHOLD if values.max(initial=0) > 1 else 0)).astype(np.uint8)


def mixed_codes(values: np.ndarray) -> str:
    """What was found, if a map has three codes, of which one would be taken for another; else nothing."""
    if (values == 1).any() and (values == 255).any() and not ((values > 1) & (values < 255)).any():
        return '0, 1 and 255 (there is no code for what is not labelled)'
    return ''
