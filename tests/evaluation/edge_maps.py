"""Edge maps for tests: contours of random fields, photographs, and slow, obvious ways to match them."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import skimage.data
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from skimage.color import rgb2gray
from skimage.feature import canny
from skimage.io import imread
from skimage.morphology import thin
from skimage.transform import resize

PHOTOS = ('astronaut.png', 'chelsea.png', 'coffee.png', 'rocket.jpg')
NYUD_SIZE = (425, 560)


def boundary(mask):
    edges = np.zeros_like(mask)
    edges[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edges[:-1] |= mask[:-1] != mask[1:]
    return edges


def contours(rng, size=(48, 64), scale=5.0, jitter=0.0):
    """Thin closed contours of a smooth random field, and the same ones seen through some jitter."""
    field = ndimage.gaussian_filter(rng.normal(size=size), scale)
    other = field + jitter * field.std() * ndimage.gaussian_filter(rng.normal(size=size), 2) * 4
    return tuple(thin(boundary(f > 0)) for f in (field, other))


@lru_cache(maxsize=8)
def photo(name, size=NYUD_SIZE):
    image = imread(Path(skimage.data.__file__).parent / name)
    return resize(rgb2gray(image[..., :3]), size, anti_aliasing=True)


def photo_pair(name, kind, size=NYUD_SIZE, seed=0):
    """Canny edges of a photograph as target, and a probability map: its own edges moved, blurred and noisy, or the
    gradient magnitude of the photograph."""
    rng = np.random.default_rng(seed)
    target = canny(photo(name, size), sigma=2)
    if kind == 'moved':
        score = ndimage.gaussian_filter(ndimage.shift(target.astype(float), (1.5, -2), order=1), 2)
        score = score / score.max() + 0.1 * rng.random(size) * ndimage.gaussian_filter(rng.random(size), 3)
    else:
        score = ndimage.gaussian_gradient_magnitude(photo(name, size), 1.5)
        score = score / np.percentile(score, 99)
    return target, np.clip(score, 0, 1).astype(np.float32)


def slow_maximum(pred, target, radius):
    """The largest number of pairs: try to find a partner for each pixel, moving others aside (Kuhn's algorithm)."""
    near = cdist(np.argwhere(pred), np.argwhere(target)) <= radius * (1 + 1e-12)
    owner = {}

    def place(one, seen):
        for other in np.flatnonzero(near[one]):
            if other not in seen:
                seen.add(other)
                if other not in owner or place(owner[other], seen):
                    owner[other] = one
                    return True
        return False

    return sum(place(one, set()) for one in range(len(near)))


def slow_bsds(pred, target, radius):
    """The number of pairs of least cost as the BSDS benchmark sets the costs, all places for left-over pixels on offer.

    Rows: pixels of ``pred``, then places for left-over pixels of ``target``; columns the other way round.
    """
    left_over = 100 * radius
    distance = cdist(np.argwhere(pred), np.argwhere(target))
    costs = np.full((sum(distance.shape),) * 2, float(left_over))
    rows, columns = distance.shape
    costs[:rows, :columns] = np.where(distance <= radius * (1 + 1e-12), distance, 1e6 * (1 + left_over))
    row, column = linear_sum_assignment(costs)
    return int(((row < rows) & (column < columns)).sum())
