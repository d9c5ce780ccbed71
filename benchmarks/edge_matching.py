"""What odsF costs and how its matchers differ: photographs of the size of NYUD-v2, on one core.

Targets are Canny edges of the photographs that come with scikit-image, predictions are

* moved: the target shifted by (1.5, -2) pixels, blurred and with a little noise;
* gradient: the gradient magnitude of the photograph;
* noisy: that of the photograph with noise, which is full of false edges;

and, last, contours of dense random fields, found at another level than that of the target: hard, and no photograph.

Times are CPU seconds per image for all thresholds together, thinning apart from matching. The exit code is 1 if greedy
matching takes more than 2 s for any image, if it ever finds more pairs than the exact one, or if thinning differs from
that of scikit-image.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from rich.progress import Progress
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.feature import canny
from skimage.io import imread
from skimage.morphology import thin
from skimage.transform import resize

from mtl_plugins.evaluation.edges import MATCHERS, check_thresholds, suppress_non_maxima, thinned, tolerance
from mtl_plugins.evaluation.edges.bsds import load_correspond_pixels

PHOTOS = ('astronaut.png', 'chelsea.png', 'coffee.png', 'rocket.jpg', 'camera.png', 'coins.png', 'motorcycle_left.png')
KINDS = ('moved', 'gradient', 'noisy', 'contours')
LIMIT = 2.0

Sums = dict[str, Any]


def make_pair(kind: str, photo: str, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the target (boolean) and the probabilities (float32), both ``size``."""
    rng = np.random.default_rng(PHOTOS.index(photo))
    if kind == 'contours':
        field = ndimage.gaussian_filter(rng.normal(size=size), 3)
        field /= field.std()
        inside = field > 0
        target = np.zeros(size, dtype=bool)
        target[:, :-1] |= inside[:, :-1] != inside[:, 1:]
        target[:-1] |= inside[:-1] != inside[1:]
        return target, np.exp(-(((field - 0.25) / 0.2) ** 2)).astype(np.float32)
    image = imread(Path(skimage.data.__file__).parent / photo)
    image = rgb2gray(image[..., :3]) if image.ndim == 3 else image / 255.0
    image = resize(image, size, anti_aliasing=True)
    target = canny(image, sigma=2)
    if kind == 'moved':
        score = ndimage.gaussian_filter(ndimage.shift(target.astype(float), (1.5, -2), order=1), 2)
        score = score / score.max() + 0.1 * rng.random(size) * ndimage.gaussian_filter(rng.random(size), 3)
    else:
        noise = 0.1 * rng.normal(size=size) if kind == 'noisy' else 0.0
        score = ndimage.gaussian_gradient_magnitude(image + noise, 1.5 if kind == 'gradient' else 1.0)
        score = score / np.percentile(score, 99)
    return target, np.clip(score, 0, 1).astype(np.float32)


def measure(
    target: np.ndarray, score: np.ndarray, thresholds: Sequence[float], max_dist: float, matchers: Sequence[str]
) -> Sums:
    """Return times (CPU seconds), pairs and pixels of one image; raises RuntimeError where a check fails."""
    masks = [score >= threshold for threshold in thresholds]
    seconds: dict[str, float] = {}
    seconds['suppression'], _ = _timed(lambda: suppress_non_maxima(score))
    seconds['thinning'], maps = _timed(lambda: [thinned(mask) for mask in masks])
    seconds['thinning by scikit-image'], theirs = _timed(lambda: [thin(mask) for mask in masks])
    if not all(np.array_equal(ours, other) for ours, other in zip(maps, theirs)):
        raise RuntimeError('thinning differs from scikit-image')
    edges, radius = thinned(target), tolerance(target.shape, max_dist)
    pairs = {}
    for name in matchers:
        seconds[name], pairs[name] = _timed(lambda name=name: [MATCHERS[name](one, edges, radius) for one in maps])
    if any(greedy > exact for greedy, exact in zip(pairs['greedy'], pairs['exact'])):
        raise RuntimeError('greedy found more pairs than exact')
    return dict(
        seconds=seconds,
        pairs={name: np.array(values) for name, values in pairs.items()},
        predicted=np.array([one.sum() for one in maps]),
        actual=int(edges.sum()),
    )


def best_f(images: Sequence[Sums], matcher: str) -> float:
    """Return odsF in percent over the images."""
    hits = sum(image['pairs'][matcher] for image in images)
    pixels = sum(image['predicted'] for image in images) + sum(image['actual'] for image in images)
    return float((200 * hits / pixels).max())


def tables(results: dict[str, list[Sums]], matchers: Sequence[str]) -> Iterator[str]:
    """The lines of both tables, in Markdown."""
    steps = ['suppression', 'thinning', 'thinning by scikit-image', *matchers]
    yield '| maps | edge pixels of target / prediction | ' + ' | '.join(f'{step} (s)' for step in steps) + ' |'
    yield '|---' * (len(steps) + 2) + '|'
    for kind, images in results.items():
        actual = statistics.median(image['actual'] for image in images)
        predicted = statistics.median(image['predicted'].max() for image in images)
        cells = [f'{actual:.0f} / up to {predicted:.0f}']
        for step in steps:
            seconds = [image['seconds'][step] for image in images]
            cells.append(f'{statistics.median(seconds):.3f} (max {max(seconds):.3f})')
        yield f'| {kind} | {" | ".join(cells)} |'
    yield ''
    others = [name for name in matchers if name != 'exact']
    heads = [f'{name} F | exact - {name} | fewer pairs at any threshold (mean, max)' for name in others]
    yield '| maps | exact F (odsF) | ' + ' | '.join(heads) + ' |'
    yield '|---' * (2 + 3 * len(others)) + '|'
    for kind, images in results.items():
        exact = best_f(images, 'exact')
        cells = [f'{exact:.2f}']
        for name in others:
            value = best_f(images, name)
            lost = np.concatenate(
                [1 - image['pairs'][name] / np.maximum(image['pairs']['exact'], 1) for image in images]
            )
            some = np.concatenate([image['pairs']['exact'] for image in images]) > 0
            cells += [f'{value:.2f}', f'{exact - value:.2f}', f'{lost[some].mean():.2%}, {lost[some].max():.2%}']
        yield f'| {kind} | {" | ".join(cells)} |'


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=int, nargs=2, default=(425, 560), metavar=('H', 'W'))
    parser.add_argument('--thresholds', type=int, choices=(19, 101), default=19)
    parser.add_argument('--max-dist', type=float, default=0.011, help='share of the diagonal (0.011, as on NYUD-v2)')
    parser.add_argument('--photos', nargs='+', choices=PHOTOS, default=PHOTOS, metavar='PHOTO', help=', '.join(PHOTOS))
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=KINDS, metavar='KIND', help=', '.join(KINDS))
    parser.add_argument('--bsds', action='store_true', help="the BSDS program too (extra 'edges'; minutes)")
    args = parser.parse_args(argv)
    matchers = ['greedy', 'exact']
    if args.bsds:
        load_correspond_pixels()
        matchers.append('bsds')
    thresholds = check_thresholds(args.thresholds)
    results: dict[str, list[Sums]] = {kind: [] for kind in args.kinds}
    with Progress(disable=not sys.stdout.isatty(), transient=True) as progress:
        task = progress.add_task('images', total=len(args.kinds) * len(args.photos))
        for kind in args.kinds:
            for photo in args.photos:
                target, score = make_pair(kind, photo, tuple(args.size))
                try:
                    results[kind].append(measure(target, score, thresholds, args.max_dist, matchers))
                except RuntimeError as error:
                    print(f'{kind}, {photo}: {error}', file=sys.stderr)
                    return 1
                progress.advance(task)
    print(
        f'{len(args.photos)} images of {args.size[0]} x {args.size[1]}, {args.thresholds} thresholds, max_dist '
        f'{args.max_dist}; CPU seconds per image: median (largest). Python {platform.python_version()}, NumPy '
        f'{np.__version__}\n'
    )
    print('\n'.join(tables(results, matchers)))
    slowest = max(image['seconds']['greedy'] for images in results.values() for image in images)
    print(f'\ngreedy matching takes at most {slowest:.2f} s per image (limit {LIMIT:.0f} s)')
    return 0 if slowest <= LIMIT else 1


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


if __name__ == '__main__':
    sys.exit(main())
