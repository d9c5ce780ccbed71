"""Decoding of Taskonomy's codes pixel by pixel: slow, obvious, with Python's numbers alone."""

import math

import numpy as np

FULL = dict(edge_occlusion=409.6, edge_texture=5242.88, keypoints2d=327.68, keypoints3d=65536.0)


def pixel(task, codes):
    """Target of one pixel from its list of codes, before blur and masks; a list."""
    codes = [int(code) for code in codes]
    if task in ('depth_euclidean', 'depth_zbuffer'):
        return [math.log(1 + codes[0]) / math.log(65536)]
    if task in FULL:
        code = codes[0] if task == 'edge_occlusion' else min(codes[0], FULL[task])
        return [2 * code / FULL[task] - 1]
    if task == 'principal_curvature':
        return [(codes[0] - 123.572) / 31.922, (codes[1] - 120.1) / 21.658]
    values = [2 * code / 255 - 1 for code in codes]
    return [values[0], -values[1], -values[2]] if task == 'normal' else values


def target(task, codes, valid=None):
    """Decode an image; ``valid`` None labels all pixels."""
    rows, columns = codes.shape[:2]
    out = [[pixel(task, np.atleast_1d(codes[y, x])) for x in range(columns)] for y in range(rows)]
    out = np.array(out, np.float64)
    if task == 'edge_occlusion':
        out = blur(out[..., 0], 4 * rows / 256, valid)[..., None]
    if valid is not None:
        for y, x in np.argwhere(~valid):
            out[y, x] = 0 if task == 'normal' else math.nan
        if task == 'normal':
            for y, x in np.argwhere(valid):
                length = math.sqrt(sum(v * v for v in out[y, x]))
                out[y, x] = out[y, x] / length if length >= 0.5 else 0
    return out[..., 0] if out.shape[-1] == 1 else out


def blur(image, sigma, valid=None):
    """Gaussian cut off at 4 sigma, borders mirrored; with ``valid`` the weighted mean of the valid pixels."""
    reach = int(4 * sigma + 0.5)
    weights = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-reach, reach + 1)]
    rows, columns = image.shape
    out = np.zeros(image.shape)
    for y in range(rows):
        for x in range(columns):
            total = norm = 0.0
            for i, wy in enumerate(weights):
                for j, wx in enumerate(weights):
                    v, u = mirror(y + i - reach, rows), mirror(x + j - reach, columns)
                    if valid is None or valid[v, u]:
                        total += wy * wx * image[v, u]
                        norm += wy * wx
            out[y, x] = total / norm if norm else math.nan
    return out


def mirror(index, length):
    while not 0 <= index < length:
        index = -1 - index if index < 0 else 2 * length - 1 - index
    return index


def dilated(holes, reach=2):
    out = np.zeros_like(holes)
    for y, x in np.ndindex(*holes.shape):
        out[y, x] = holes[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1].any()
    return out
