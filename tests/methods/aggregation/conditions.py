"""What characterises the solution of each method: 0 at the solution, relative to the lengths that occur."""

import torch


def mgda(aggregator, G, update):
    """The shortest vector u of the convex hull: u . g_k >= |u|^2 for all k, and u lies in the hull."""
    weights = aggregator.last_weights
    inside = (weights.sum() - 1).abs() + (-weights).clamp_min(0).max()
    square = update @ update
    gap = (square - G @ update).clamp_min(0) / (G.norm(dim=1) * (update.norm() + weights.abs() @ G.norm(dim=1)))
    return float(inside + gap.max())


def mgda_unit_rows(aggregator, G, update):
    unit = G / G.norm(dim=1, keepdim=True)
    shares = aggregator.last_weights * G.norm(dim=1)
    inside = (shares.sum() - 1).abs() + (-shares).clamp_min(0).max()
    return float(inside + (update @ update - unit @ update).clamp_min(0).max())


def cagrad(aggregator, G, update):
    """Duality gap: the worst product over the ball is at most g_w . g_0 + c |g_0| |g_w| for any w on the simplex."""
    c = aggregator.c
    divisor = (1, 1 + c**2, 1 + c)[aggregator.rescale]
    update = update * divisor
    mean = G.mean(0)
    radius = c * mean.norm()
    outside = ((update - mean).norm() - radius).clamp_min(0) / mean.norm()
    w = (aggregator.last_weights * divisor - 1 / len(G)).clamp_min(0)
    w = w / w.sum()
    bound = w @ G @ mean + radius * (w @ G).norm()
    return float(outside + (bound - (G @ update).min()).abs() / (G.norm(dim=1).max() * mean.norm()))


def fair(aggregator, G, update):
    """(G G^T) w = w^(-1/alpha), relative to the right side."""
    weights = aggregator.last_weights
    return float(((G @ update) * weights ** (1 / aggregator.alpha) - 1).abs().max())


def dual_cone(G, vector, projection):
    """Projection on {u: u . g_k >= 0}: inside, orthogonal to the correction, and the correction is a sum of rows."""
    unit = G / G.norm(dim=1, keepdim=True)
    size = vector.norm()
    correction = projection - vector
    conflict = (-(unit @ projection)).clamp_min(0).max() / size
    angle = (correction @ projection).abs() / size**2
    return float(conflict + angle)


def upgrad(aggregator, G, update):
    """The mean of projections, each found by trying all active sets; for few rows."""
    exact = torch.stack([_projection(G, row) for row in G]).mean(0)
    return float((update - exact).norm() / G.norm(dim=1).max())


def dualproj(aggregator, G, update):
    return float((update - _projection(G, G.mean(0))).norm() / G.norm(dim=1).max())


def _projection(G, vector):
    best, least = None, float('inf')
    unit = G / G.norm(dim=1, keepdim=True)
    for code in range(2 ** len(G)):
        active = [k for k in range(len(G)) if code >> k & 1]
        candidate = vector - unit[active].T @ (torch.linalg.pinv(unit[active].T) @ vector) if active else vector
        if (unit @ candidate).min() >= -1e-12 * vector.norm():
            distance = float((candidate - vector).norm())
            if distance < least:
                best, least = candidate, distance
    return best


def pcgrad(aggregator, G, update):
    """Against the definition, written with the rows themselves, in ascending order."""
    total = torch.zeros_like(update)
    for i in range(len(G)):
        part = G[i].clone()
        for j in range(len(G)):
            product = part @ G[j]
            if j != i and product < 0:
                part -= product / (G[j] @ G[j]) * G[j]
        total += part
    return float((update - total).norm() / total.norm())
