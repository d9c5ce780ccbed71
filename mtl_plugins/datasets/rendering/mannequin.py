"""A jointed mannequin of capsules with six labelled body parts."""

import math

from .builder import Piece
from .draw import Draw
from .labels import PART
from .materials import CHECKER, PLAIN, STRIPES, plain, shade_of, textured
from .shapes import Vec3

SKIN = ((0.78, 0.55, 0.42), (0.6, 0.38, 0.25), (0.4, 0.24, 0.15), (0.85, 0.66, 0.55))
HAIR = ((0.05, 0.04, 0.03), (0.25, 0.14, 0.06), (0.6, 0.45, 0.2), (0.45, 0.42, 0.4))


def mannequin(piece: Piece, draw: Draw) -> None:
    """Add a standing or walking person of 1.5 to 1.9 m; the lowest point of the feet touches the ground."""
    unit = draw.uniform(1.5, 1.9) / 1.75
    skin = plain(draw.choice(SKIN))
    hair = plain(draw.choice(HAIR))
    shirt_colour = draw.colour((0.2, 0.5), (0.2, 0.75))
    shirt = textured(draw, shirt_colour, shade_of(shirt_colour, 0.5), (PLAIN, PLAIN, STRIPES, CHECKER), (0.08, 0.14))
    trousers = plain(draw.colour((0.1, 0.5), (0.08, 0.5)))
    sleeve = shirt if draw.chance(0.5) else skin
    sock = trousers if draw.chance(0.6) else skin
    stride, lean = draw.uniform(-0.45, 0.45), draw.uniform(-0.06, 0.06)

    legs, lowest = [], 0.0
    for side in (-1, 1):
        hip = (side * 0.095, 0.0, 0.0)
        swing = side * stride
        knee = _bone(hip, 0.42, swing, side * draw.uniform(0.0, 0.1))
        bend = draw.uniform(0.0, 0.25) + max(0.0, -swing) * 0.7
        ankle = _bone(knee, 0.4, swing - bend, 0.0)
        toe = (ankle[0] + side * 0.02, ankle[1] - 0.02, ankle[2] + 0.15)
        legs.append((hip, knee, ankle, toe))
        lowest = min(lowest, ankle[1] - 0.06, toe[1] - 0.045)

    def put(start: Vec3, end: Vec3, radius: float, material, part: str) -> None:
        ends = [(p[0] * unit, (p[1] - lowest) * unit, p[2] * unit) for p in (start, end)]
        piece.capsule(ends[0], ends[1], radius * unit, material, PART[part])

    for hip, knee, ankle, toe in legs:
        put(hip, knee, 0.085, trousers, 'upper_leg')
        put(knee, ankle, 0.066, sock, 'lower_leg')
        put(ankle, toe, 0.045, hair, 'lower_leg')

    chest = (0.0, 0.42, lean)
    put((-0.06, 0.04, 0.0), (0.06, 0.04, 0.0), 0.115, trousers, 'torso')
    put((0.0, 0.1, 0.0), chest, 0.14, shirt, 'torso')
    put((-0.1, 0.45, lean), (0.1, 0.45, lean), 0.105, shirt, 'torso')

    neck = (0.0, 0.58, lean)
    put((0.0, 0.5, lean), neck, 0.055, skin, 'head')
    put((0.0, 0.68, lean + 0.01), (0.0, 0.74, lean + 0.01), 0.11, skin, 'head')
    put((0.0, 0.74, lean - 0.02), (0.0, 0.765, lean - 0.02), 0.11, hair, 'head')

    for side in (-1, 1):
        shoulder = (side * 0.2, 0.48, lean)
        swing, spread = -side * stride + draw.uniform(-0.3, 0.5), side * draw.uniform(0.12, 0.9)
        elbow = _bone(shoulder, 0.29, swing, spread)
        bend = draw.uniform(0.1, 1.5)
        wrist = _bone(elbow, 0.25, swing + bend, spread * 0.7)
        put(shoulder, elbow, 0.066, shirt, 'upper_arm')
        put(elbow, wrist, 0.053, sleeve, 'lower_arm')
        tip = tuple(w + 0.22 * (w - e) for w, e in zip(wrist, elbow))
        put(wrist, tip, 0.056, skin, 'lower_arm')


def _bone(start: Vec3, length: float, swing: float, spread: float) -> Vec3:
    """End of a limb that hangs from ``start``, swung forwards (+z) and spread sideways (+x) by angles in radians."""
    down = math.cos(swing) * math.cos(spread)
    return (
        start[0] + length * math.sin(spread) * math.cos(swing),
        start[1] - length * down,
        start[2] + length * math.sin(swing),
    )
