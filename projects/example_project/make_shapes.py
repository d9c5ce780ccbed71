"""Draws the dataset: python projects/example_project/make_shapes.py FOLDER"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.draw import disk, polygon
from skimage.segmentation import find_boundaries


def draw(rng, size):
    """One picture ``(size, size, 3)`` uint8 and its map of classes ``(size, size)`` uint8."""
    texture = gaussian_filter(rng.normal(size=(size, size, 3)), (1.5, 1.5, 0))
    picture = rng.uniform(60, 190, 3) + 60 * texture
    classes = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(2, 6)):
        kind = rng.integers(1, 4)
        centre, radius = rng.uniform(0, size, 2), rng.uniform(size / 12, size / 5)
        if kind == 1:
            pixels = disk(centre, radius, shape=classes.shape)
        else:
            corners = 4 if kind == 2 else 3
            angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(corners) / corners
            pixels = polygon(
                centre[0] + radius * np.sin(angles), centre[1] + radius * np.cos(angles), shape=classes.shape
            )
        classes[pixels] = kind
        picture[pixels] = rng.uniform(20, 235, 3) + 25 * texture[pixels]
    return picture.clip(0, 255).astype(np.uint8), classes


def write(folder, num_train, num_val, size, seed):
    """Write the dataset."""
    folder = Path(folder)
    for name in ('images', 'shape', 'edge', 'outline_distance'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ids = [f'{number:04d}' for number in range(num_train + num_val)]
    for name in ids:
        picture, classes = draw(rng, size)
        edges = find_boundaries(classes, mode='inner')
        distance = distance_transform_edt(~edges) if edges.any() else np.full(classes.shape, np.nan)
        Image.fromarray(picture).save(folder / 'images' / f'{name}.png')
        Image.fromarray(classes).save(folder / 'shape' / f'{name}.png')
        Image.fromarray(edges.astype(np.uint8)).save(folder / 'edge' / f'{name}.png')
        np.save(folder / 'outline_distance' / f'{name}.npy', distance.astype(np.float32))
    (folder / 'train.txt').write_text('\n'.join(ids[:num_train]) + '\n')
    (folder / 'val.txt').write_text('\n'.join(ids[num_train:]) + '\n')


def main(argv=None):
    parser = argparse.ArgumentParser(description='Draw discs, squares and triangles with three targets.')
    parser.add_argument('folder', help='where to')
    parser.add_argument('--train', type=int, default=200, help='pictures to train on (200)')
    parser.add_argument('--val', type=int, default=40, help='pictures for validation (40)')
    parser.add_argument('--size', type=int, default=96, help='height and width (96)')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    write(args.folder, args.train, args.val, args.size, args.seed)
    print(f'{args.train + args.val} pictures in {args.folder}')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
