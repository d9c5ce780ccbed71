"""Furniture: each function adds the solids of one piece to a :class:`~.builder.Piece` in its local frame.

Sizes are in metres. A piece gets its main colour and an accent; which ones is the scene's business.
What hangs on a wall and the fronts of cabinets are millimetres thick: thicker, their sides would be seen by single
pixels here and there, as specks in the normals.
"""

import dataclasses

from .builder import Piece
from .draw import Colour, Draw
from .materials import CHECKER, NOISE, PLAIN, STRIPES, plain, shade_of, textured

LAMP_LIGHT = (1.0, 0.93, 0.75)


def table(piece: Piece, draw: Draw, main: Colour, accent: Colour) -> float:
    """A table with four legs, or a round one with a foot; returns the height of its top."""
    height, thick = draw.uniform(0.68, 0.78), draw.uniform(0.05, 0.08)
    top = textured(draw, main, shade_of(main, 0.7), (PLAIN, NOISE, STRIPES), (0.1, 0.2))
    leg = plain(accent)
    if draw.chance(0.35):
        radius = draw.uniform(0.45, 0.65)
        piece.cylinder((0, height - thick, 0), (0, height, 0), radius, top)
        piece.cylinder((0, 0.03, 0), (0, height - thick, 0), 0.07, leg)
        piece.cylinder((0, 0, 0), (0, 0.04, 0), radius * 0.55, leg)
        return height
    width, deep, foot = draw.uniform(1.1, 1.6), draw.uniform(0.65, 0.85), draw.uniform(0.06, 0.1)
    piece.box((0, height - thick / 2, 0), (width, thick, deep), top)
    for x in (-1, 1):
        for z in (-1, 1):
            centre = (x * (width / 2 - foot), (height - thick) / 2, z * (deep / 2 - foot))
            piece.box(centre, (foot, height - thick, foot), leg)
    return height


def chair(piece: Piece, draw: Draw, main: Colour, accent: Colour) -> None:
    """A chair; its back is at local -z."""
    seat, back = draw.uniform(0.42, 0.48), draw.uniform(0.85, 1.05)
    wide, foot = draw.uniform(0.42, 0.5), draw.uniform(0.045, 0.065)
    cover = textured(draw, main, accent, (PLAIN, PLAIN, STRIPES, CHECKER), (0.07, 0.12))
    frame = plain(shade_of(main, 0.6))
    inset = wide / 2 - foot / 2 - 0.006  # faces in one plane would flicker
    piece.box((0, seat - 0.03, 0), (wide, 0.07, wide), cover)
    piece.box((0, (seat + 0.12 + back) / 2, -wide / 2 + 0.03), (wide, back - seat - 0.12, 0.05), cover)
    for x in (-1, 1):
        for z in (-1, 1):
            top = seat - 0.06 if z > 0 else back - 0.02
            piece.box((x * inset, top / 2, z * inset), (foot, top, foot), frame)


def cabinet(piece: Piece, draw: Draw, main: Colour, accent: Colour) -> tuple[float, float]:
    """A cabinet with doors or drawers, its back at local z = 0; returns its height and depth."""
    width, high, deep = draw.uniform(0.8, 1.5), draw.uniform(0.75, 1.9), draw.uniform(0.4, 0.5)
    body = textured(draw, main, shade_of(main, 0.75), (PLAIN, NOISE, STRIPES), (0.08, 0.2))
    front = plain(accent)
    knob = plain((0.08, 0.08, 0.08))
    piece.box((0, high / 2, deep / 2), (width, high, deep), body)
    columns, rows = draw.integer(1, 3), draw.integer(1, 4)
    wide, tall, gap = width / columns, (high - 0.08) / rows, 0.06
    for column in range(columns):
        for row in range(rows):
            x, y = (column + 0.5) * wide - width / 2, 0.08 + (row + 0.5) * tall - gap / 2
            piece.box((x, y, deep), (wide - gap, tall - gap, 0.016), front)
            piece.sphere((x, y + tall * 0.25, deep + 0.03), 0.035, knob)
    return high, deep


def sofa(piece: Piece, draw: Draw, main: Colour, accent: Colour) -> None:
    """A sofa with rounded armrests and one or two cushions, its back at local z = 0."""
    width, deep, seat, back = (
        draw.uniform(1.4, 2.1), draw.uniform(0.8, 0.95), draw.uniform(0.36, 0.44), draw.uniform(0.75, 0.95),
    )  # fmt: skip
    cover = textured(draw, main, shade_of(main, 0.65), (PLAIN, NOISE, STRIPES, CHECKER), (0.1, 0.2))
    piece.box((0, seat / 2, deep / 2 - 0.01), (width - 0.02, seat, deep), cover)
    piece.box((0, back / 2, 0.12), (width - 0.01, back, 0.24), cover)
    piece.capsule((-width / 2 + 0.1, back, 0.12), (width / 2 - 0.1, back, 0.12), 0.12, cover)
    for x in (-1, 1):
        piece.box((x * (width / 2 - 0.09), 0.28, deep / 2), (0.18, 0.56, deep), cover)
        piece.cylinder((x * (width / 2 - 0.09), 0.56, 0), (x * (width / 2 - 0.09), 0.56, deep), 0.11, cover)
    cushion = plain(accent)
    for x in (-1, 1) if draw.chance(0.5) else (draw.choice((-1, 1)),):
        piece.box((x * width * 0.25, seat + 0.18, 0.32), (0.38, 0.38, 0.14), cushion)


def floor_lamp(piece: Piece, draw: Draw, main: Colour, accent: Colour) -> None:
    """A standing lamp."""
    height, pole = draw.uniform(1.4, 1.75), plain(shade_of(accent, 0.5))
    piece.cylinder((0, 0, 0), (0, 0.05, 0), 0.17, pole)
    piece.cylinder((0, 0.05, 0), (0, height - 0.3, 0), 0.03, pole)
    piece.cylinder((0, height - 0.36, 0), (0, height, 0), draw.uniform(0.18, 0.25), _glow(draw, main))


def table_lamp(piece: Piece, draw: Draw, main: Colour, accent: Colour) -> None:
    """A small lamp that stands on furniture."""
    foot = draw.uniform(0.08, 0.11)
    piece.sphere((0, foot, 0), foot, plain(accent, gloss=0.3))
    piece.cylinder((0, foot, 0), (0, 2 * foot + 0.1, 0), 0.03, plain(shade_of(accent, 0.5)))
    piece.cylinder((0, 2 * foot + 0.06, 0), (0, 2 * foot + 0.3, 0), draw.uniform(0.14, 0.19), _glow(draw, main))


def pendant_lamp(piece: Piece, draw: Draw, main: Colour, accent: Colour) -> None:
    """A globe that hangs from the ceiling; the origin is where it is fixed."""
    drop, radius = draw.uniform(0.35, 0.7), draw.uniform(0.15, 0.24)
    piece.cylinder((0, -drop, 0), (0, 0, 0), 0.02, plain(shade_of(accent, 0.4)))
    piece.sphere((0, -drop, 0), radius, _glow(draw, main))


def _glow(draw: Draw, colour: Colour):
    tint = tuple(0.5 * light + 0.5 * max(channel, 0.3) for light, channel in zip(LAMP_LIGHT, colour))
    return plain(tint, emission=draw.uniform(0.25, 0.8))


def ball(piece: Piece, draw: Draw, main: Colour, accent: Colour, size: float) -> None:
    """A ball of radius ``size``."""
    skin = textured(draw, main, shade_of(accent, 1.0), (PLAIN, PLAIN, STRIPES), (size * 0.5, size * 0.8))
    piece.sphere((0, size, 0), size, skin)


def vase(piece: Piece, draw: Draw, main: Colour, accent: Colour, size: float) -> None:
    """A bellied vase of about 2.2 x ``size`` height."""
    size = 0.8 * size
    clay = plain(main, gloss=0.4)
    piece.sphere((0, size, 0), size, clay)
    piece.cylinder((0, size, 0), (0, size * 2.6, 0), size * 0.5, clay)
    piece.cylinder((0, size * 2.6, 0), (0, size * 2.8, 0), size * 0.7, clay)


def cube(piece: Piece, draw: Draw, main: Colour, accent: Colour, size: float) -> None:
    """A toy block with edges of 1.7 x ``size``, one more turned on top of it in half of the cases."""
    edge = 1.7 * size
    look = textured(draw, main, shade_of(main, 0.55), (PLAIN, CHECKER), (edge * 0.4, edge * 0.6))
    piece.box((0, edge / 2, 0), (edge, edge, edge), look)
    if draw.chance(0.5):
        piece.box((0, edge * 1.3, 0), (edge * 0.6, edge * 0.6, edge * 0.6), look, yaw=draw.uniform(0.3, 1.2))


ORNAMENTS = (ball, vase, cube)


def carton(piece: Piece, draw: Draw, main: Colour, accent: Colour) -> None:
    """A cardboard box with tape, sometimes with a smaller one on top."""
    wide, high, deep = draw.uniform(0.4, 0.6), draw.uniform(0.3, 0.5), draw.uniform(0.35, 0.5)
    card, tape = textured(draw, main, shade_of(main, 0.8), (PLAIN, NOISE), (0.06, 0.12)), plain(accent)
    piece.box((0, high / 2, 0), (wide, high, deep), card)
    piece.box((0, high / 2 + 0.003, 0), (0.08, high + 0.006, deep + 0.006), tape)
    if draw.chance(0.4):
        piece.box((0.02, high * 1.35, 0.02), (wide * 0.7, high * 0.7, deep * 0.7), card, yaw=draw.uniform(-0.6, 0.6))


def window(piece: Piece, draw: Draw, main: Colour, accent: Colour) -> tuple[float, float]:
    """A window on a wall at local z = 0, with a frame and one cross; returns its width and height."""
    width, high = draw.uniform(0.9, 1.5), draw.uniform(0.9, 1.3)
    sky = (draw.uniform(0.45, 0.7), draw.uniform(0.65, 0.8), 0.95)
    glass = textured(draw, sky, (0.95, 0.97, 1.0), (NOISE, PLAIN), (0.5, 0.9))
    glass = dataclasses.replace(glass, emission=draw.uniform(0.6, 0.9))
    frame, bar = plain(main), 0.08
    piece.box((0, high / 2, 0), (width, high, 0.006), glass)
    for x in (-width / 2, 0, width / 2):
        piece.box((x, high / 2, 0), (bar, high + bar, 0.01), frame)
    for y in (0, high / 2, high):
        piece.box((0, y, 0), (width + bar, bar, 0.01), frame)
    return width, high


def picture(piece: Piece, draw: Draw, main: Colour, accent: Colour) -> tuple[float, float]:
    """A framed picture on a wall at local z = 0; returns its width and height."""
    width, high, edge = draw.uniform(0.5, 1.0), draw.uniform(0.4, 0.8), draw.uniform(0.05, 0.08)
    canvas = textured(draw, main, accent, (CHECKER, STRIPES, NOISE, NOISE), (0.12, 0.25))
    frame = plain(shade_of(accent, 0.35))
    piece.box((0, high / 2, 0), (width, high, 0.02), frame)
    piece.box((0, high / 2, 0.001), (width - 2 * edge, high - 2 * edge, 0.02), canvas)
    return width, high
