"""The losses as loops over pixels: slow, obvious, independent of torch."""

import math

import numpy as np


def _log_softmax(logits):
    top = max(logits)
    total = math.log(sum(math.exp(value - top) for value in logits)) + top
    return [value - total for value in logits]


def _pixels(pred, target, valid):
    for n, y, x in np.argwhere(valid):
        yield [float(v) for v in pred[n, :, y, x]], [float(v) for v in target[n, :, y, x]]


def _mean(terms):
    terms = list(terms)
    return sum(terms) / len(terms) if terms else 0.0


def cross_entropy(pred, target, valid):
    return _mean(-_log_softmax(p)[int(t[0])] for p, t in _pixels(pred, target, valid))


def bce(pred, target, valid, pos_weight=1.0, scale=1.0):
    def term(p, t):
        probability = 1 / (1 + math.exp(-p[0]))
        return -scale * (pos_weight * t[0] * math.log(probability) + (1 - t[0]) * math.log(1 - probability))

    return _mean(term(p, t) for p, t in _pixels(pred, target, valid))


def l1(pred, target, valid):
    return _mean(sum(abs(a - b) for a, b in zip(p, t)) / len(t) for p, t in _pixels(pred, target, valid))


def mse(pred, target, valid):
    return _mean(sum((a - b) ** 2 for a, b in zip(p, t)) / len(t) for p, t in _pixels(pred, target, valid))


def normals_l1(pred, target, valid):
    def term(p, t):
        length = math.sqrt(sum(v * v for v in p))
        return sum(abs(a / length - b) for a, b in zip(p, t))

    return _mean(term(p, t) for p, t in _pixels(pred, target, valid))


def normals_cosine(pred, target, valid):
    def term(p, t):
        return 1 - sum(a * b for a, b in zip(p, t)) / math.sqrt(sum(a * a for a in p) * sum(b * b for b in t))

    return _mean(term(p, t) for p, t in _pixels(pred, target, valid))


def normals_cosine_width(pred, target, valid):
    """Each row of each component is one vector; without holes this is the mean over N, C and H."""
    terms = []
    for n, y in np.ndindex(valid.shape[0], valid.shape[1]):
        labelled = np.flatnonzero(valid[n, y])
        if not labelled.size:
            continue
        cosines = []
        for channel in range(pred.shape[1]):
            a, b = ([float(v) for v in image[n, channel, y, labelled]] for image in (pred, target))
            length = math.sqrt(sum(v * v for v in a) * sum(v * v for v in b))
            cosines.append(sum(v * w for v, w in zip(a, b)) / length)
        terms += [1 - sum(cosines) / len(cosines)] * labelled.size
    return _mean(terms)


def balanced_cross_entropy(pred, target, valid):
    pixels = [(p if len(p) == 2 else [0.0, p[0]], int(t[0])) for p, t in _pixels(pred, target, valid)]
    if not pixels:
        return 0.0
    w_pos = sum(1 for _, t in pixels if t == 0) / len(pixels)
    weights = (1 - w_pos, w_pos)
    return sum(-weights[t] * _log_softmax(p)[t] for p, t in pixels) / len(pixels)
