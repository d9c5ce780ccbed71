"""The transforms as loops over pixels: slow, obvious, and without any library for images."""

import math

import numpy as np

from mtl_plugins.task_specs import get_task_spec


def is_labelled(kind, values):
    """Whether one pixel of a float target, given as a list of its channels, carries a label."""
    if any(math.isnan(v) or math.isinf(v) for v in values):
        return False
    if kind == 'depth':
        return values[0] > 0
    if kind == 'normals':
        return any(v != 0 for v in values)
    return True


def nearest(source, size):
    """Each new pixel is the source pixel in whose square its centre falls."""
    result = np.empty((*size, *source.shape[2:]), source.dtype)
    for y in range(size[0]):
        for x in range(size[1]):
            # in whole numbers, (y + 1/2) * old / new rounded down
            row, column = (2 * y + 1) * source.shape[0] // (2 * size[0]), (2 * x + 1) * source.shape[1] // (2 * size[1])
            result[y, x] = source[row, column]
    return result


def linear_weights(old, new, antialias):
    """Per new pixel along an axis: a list of (old pixel, weight), weights adding up to 1."""
    ratio = old / new
    reach = max(ratio, 1.0) if antialias else 1.0
    table = []
    for i in range(new):
        centre = (i + 0.5) * ratio
        weights = {}
        first, last = math.floor(centre - 0.5), math.floor(centre - 0.5) + 1
        if antialias:
            first, last = 0, old - 1
        for j in range(first, last + 1):
            weight = max(0.0, 1 - abs(j + 0.5 - centre) / reach)
            # The plain version repeats the border, Pillow's leaves out what is beyond it.
            place = min(max(j, 0), old - 1)
            weights[place] = weights.get(place, 0.0) + weight
        total = sum(weights.values())
        table.append([(j, w / total) for j, w in weights.items() if w / total > 1e-6])
    return table


def linear(source, size, antialias):
    """Bilinear resizing in double precision."""
    rows, columns = (linear_weights(old, new, antialias) for old, new in zip(source.shape, size))
    result = np.zeros((*size, *source.shape[2:]))
    for y in range(size[0]):
        for x in range(size[1]):
            for row, a in rows[y]:
                for column, b in columns[x]:
                    result[y, x] += a * b * source[row, column].astype(np.float64)
    return result


def linear_target(task, source, size, antialias):
    """Bilinear resizing where a mixture with an unlabelled pixel has no label; normals of length 1 again."""
    spec = get_task_spec(task)
    rows, columns = (linear_weights(old, new, antialias) for old, new in zip(source.shape, size))
    result = np.full((*size, *source.shape[2:]), spec.fill)
    for y in range(size[0]):
        for x in range(size[1]):
            parts = [(a * b, np.atleast_1d(source[r, c]).astype(float)) for r, a in rows[y] for c, b in columns[x]]
            if all(is_labelled(spec.kind, list(values)) for _, values in parts):
                mixed = sum(weight * values for weight, values in parts)
                if spec.kind == 'normals':
                    mixed = mixed / math.sqrt(sum(v * v for v in mixed))
                result[y, x] = mixed if source.ndim == 3 else mixed[0]
    return result


def flip(task, source, horizontally, vertically, negate=True):
    """Mirror an array; normals change sign along the mirrored axes."""
    height, width = source.shape[:2]
    result = np.empty_like(source)
    for y in range(height):
        for x in range(width):
            pixel = source[height - 1 - y if vertically else y, width - 1 - x if horizontally else x]
            if task is not None and get_task_spec(task).kind == 'normals' and negate:
                pixel = [0 - pixel[0] if horizontally else pixel[0], 0 - pixel[1] if vertically else pixel[1], pixel[2]]
            result[y, x] = pixel
    return result


def pad(source, size, fill):
    """The array in the middle of ``fill``; the odd row or column goes below or to the right."""
    result = np.empty((*size, *source.shape[2:]), source.dtype)
    top, left = (size[0] - source.shape[0]) // 2, (size[1] - source.shape[1]) // 2
    for y in range(size[0]):
        for x in range(size[1]):
            inside = top <= y < top + source.shape[0] and left <= x < left + source.shape[1]
            result[y, x] = source[y - top, x - left] if inside else fill
    return result


def crop_corner(shape, size, classes, max_ratio, randint):
    """Draw a window until no class has ``max_ratio`` of its labelled pixels, eleven times at most."""
    for attempt in range(11):
        top = randint(0, max(shape[0] - size[0], 0) + 1)
        left = randint(0, max(shape[1] - size[1], 0) + 1)
        if max_ratio == 1 or classes is None or attempt == 10:
            break
        counts = {}
        for y in range(top, min(top + size[0], shape[0])):
            for x in range(left, min(left + size[1], shape[1])):
                if classes[y, x] != 255:
                    counts[classes[y, x]] = counts.get(classes[y, x], 0) + 1
        if len(counts) > 1 and max(counts.values()) / sum(counts.values()) < max_ratio:
            break
    return top, left


def ignore_empty_parts(parts):
    """All 255 if every pixel is 0 or 255."""
    for row in parts:
        for value in row:
            if value not in (0, 255):
                return parts.copy()
    return np.full(parts.shape, 255, parts.dtype)


def affine(task, source, degrees, scale, fill):
    """Turn counter-clockwise and zoom about the centre; nearest pixel, ``fill`` outside."""
    spec = get_task_spec(task)
    height, width = source.shape[:2]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    result = np.empty_like(source)
    for y in range(height):
        for x in range(width):
            # right and up of the centre, turned back (clockwise) and shrunk
            right, up = x - (width - 1) / 2, (height - 1) / 2 - y
            right, up = (cos * right + sin * up) / scale, (cos * up - sin * right) / scale
            column, row = math.floor(right + width / 2), math.floor(height / 2 - up)
            if not (0 <= row < height and 0 <= column < width):
                result[y, x] = fill
                continue
            pixel = source[row, column]
            if spec.kind == 'depth':
                pixel = pixel / np.float32(scale)
            if spec.kind == 'normals':
                pixel = [cos * pixel[0] - sin * pixel[1], sin * pixel[0] + cos * pixel[1], pixel[2]]
            result[y, x] = pixel
    return result


def grey_step(image, alpha=1.0, beta=0.0):
    """``alpha * v + beta`` of every value, cut to 0..255 and rounded down."""
    result = np.empty_like(image)
    for index in np.ndindex(*image.shape):
        value = np.float32(image[index]) * np.float32(alpha) + np.float32(beta)
        result[index] = int(min(max(value, 0), 255))
    return result
