"""Where the furniture of a room stands, and in which colours."""

import math
from collections.abc import Callable

from . import furniture
from .builder import Part, Piece
from .camera import Camera
from .draw import Colour, Draw
from .mannequin import mannequin
from .materials import CHECKER, NOISE, PLAIN, STRIPES, shade_of, textured
from .shapes import Vec3

_TRIES = 24
_WALLS = ('far', 'left', 'right')


class Colours:
    """The muted colours of a room, some shared between walls, floor and furniture, and vivid ones."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self.wall = draw.colour((0.05, 0.45), (0.4, 0.9))
        self.floor = draw.colour((0.15, 0.55), (0.15, 0.65))
        self.ceiling = draw.colour((0.0, 0.12), (0.7, 0.95))
        self._shared = (
            self.wall,
            self.floor,
            draw.colour((0.1, 0.45), (0.15, 0.8)),
            draw.colour((0.1, 0.45), (0.15, 0.8)),
        )

    def muted(self) -> Colour:
        """A colour of low saturation; in four of ten cases one that the room already has."""
        if self._draw.chance(0.4):
            return self._draw.choice(self._shared)
        return self._draw.colour((0.05, 0.55), (0.06, 0.85))

    def vivid(self) -> Colour:
        """A colour of high saturation."""
        return self._draw.colour((0.88, 1.0), (0.7, 1.0))


class _Planner:
    """Keeps the pieces of one room apart: on the floor by circles, on the walls by intervals."""

    def __init__(self, draw: Draw, room: Vec3, camera: Camera) -> None:
        self.draw, self.room, self.camera = draw, room, camera
        self.circles: list[Vec3] = []
        self.hung: list[tuple[str, float, float]] = []

    def is_free(self, x: float, z: float, radius: float) -> bool:
        """Whether a circle lies in the room, away from the camera and from all circles so far."""
        width, _, depth = self.room
        if abs(x) + radius > width / 2 or z - radius < -depth or z + radius > 0:
            return False
        if math.hypot(x - self.camera.position[0], z - self.camera.position[2]) < radius + 0.9:
            return False
        return all(math.hypot(x - cx, z - cz) > radius + cr for cx, cz, cr in self.circles)

    def stand(self, radius: float, near: float, far: float) -> Vec3 | None:
        """A free place on the floor in view, at a distance between ``near`` and ``far``; None if there is none."""
        reach = 0.8 * math.tan(self.camera.field_of_view / 2)
        for _ in range(_TRIES):
            ahead = self.draw.uniform(near, min(far, self.room[2] - 0.3))
            aside = self.draw.uniform(-reach, reach) * ahead
            cos, sin = math.cos(self.camera.yaw), math.sin(self.camera.yaw)
            x = self.camera.position[0] - sin * ahead + cos * aside
            z = self.camera.position[2] - cos * ahead - sin * aside
            if self.is_free(x, z, radius):
                self.circles.append((x, z, radius))
                return (x, 0.0, z)
        return None

    def at_wall(self, radius: float) -> tuple[Vec3, float] | None:
        """A free place with the back to a wall: position on the wall's foot, and yaw; the circle is in front of it."""
        for _ in range(_TRIES):
            position, yaw = self._on_wall(self.draw.choice(_WALLS), self.draw.uniform(-1, 1), radius)
            x, z = position[0] + 0.8 * radius * math.sin(yaw), position[2] + 0.8 * radius * math.cos(yaw)
            if self.is_free(x, z, radius * 0.79):
                self.circles.append((x, z, radius * 0.79))
                return position, yaw
        return None

    def hang(self, half_width: float, height: float) -> tuple[Vec3, float] | None:
        """A free place on a wall, its lower edge at ``height``."""
        for _ in range(_TRIES):
            wall, at = self.draw.choice(('far', *_WALLS)), self.draw.uniform(-1, 1)
            (x, _, z), yaw = self._on_wall(wall, at, half_width + 0.1)
            along = x if wall == 'far' else z
            apart = all(abs(along - other) > half_width + half + 0.1 for name, other, half in self.hung if name == wall)
            if apart:
                self.hung.append((wall, along, half_width))
                return (x, height, z), yaw
        return None

    def _on_wall(self, wall: str, at: float, margin: float) -> tuple[Vec3, float]:
        width, _, depth = self.room
        if wall == 'far':
            return (at * (width / 2 - margin), 0.0, -depth), 0.0
        # Only the far two thirds of the side walls are in view.
        z = -depth + margin + (at + 1) / 2 * max(0.0, 0.65 * depth - 2 * margin)
        return ((-width / 2, 0.0, z), math.pi / 2) if wall == 'left' else ((width / 2, 0.0, z), -math.pi / 2)


def furnish(draw: Draw, room: Vec3, camera: Camera, colours: Colours) -> tuple[tuple[Part, ...], tuple[Vec3, ...]]:
    """Fill a room.

    Returns:
        The solids, and the circles ``(x, z, radius)`` on the floor that are covered.
    """
    plan = _Planner(draw, room, camera)
    parts: list[Part] = []
    hints = _Salience(draw)

    def add(kind: str, place: tuple[Vec3, float], build: Callable, *args, salient: bool = False):
        piece = Piece(kind, place[0], place[1], salient)
        main = colours.vivid() if salient else colours.muted()
        accent = shade_of(main, 0.6) if salient else colours.muted()
        result = build(piece, draw, main, accent, *args)
        parts.extend(piece.parts)
        return result

    def turned(position: Vec3 | None) -> tuple[Vec3, float] | None:
        return None if position is None else (position, draw.uniform(-math.pi, math.pi))

    if draw.chance(0.54):
        position = plan.stand(0.42, 1.5, 2.5)
        if position is not None:
            person = Piece('person', position, draw.uniform(-math.pi, math.pi))
            mannequin(person, draw)
            parts.extend(person.parts)
    # The first salient object is placed early and near, so that hardly any image is without one.
    size = draw.uniform(0.17, 0.3)
    if place := turned(plan.stand(size, 1.5, 2.8)):
        add('ornament', place, draw.choice(furniture.ORNAMENTS), size, salient=hints.ornament())
    if draw.chance(0.6) and (place := plan.at_wall(0.95)):
        add('sofa', place, furniture.sofa, salient=hints.furniture())
    tops = []  # places where something small can be put
    centre = plan.stand(0.7, 1.9, 5.0) if draw.chance(0.75) else None
    if centre is not None:
        high = add('table', turned(centre), furniture.table)
        tops.append((centre[0], high, centre[2]))
    if draw.chance(0.75) and (place := plan.at_wall(0.7)):
        high, deep = add('cabinet', place, furniture.cabinet, salient=hints.furniture())
        if high < 1.4:
            (x, _, z), yaw = place
            tops.append((x + deep / 2 * math.sin(yaw), high, z + deep / 2 * math.cos(yaw)))
    for _ in range(draw.integer(0, 2)):
        if place := turned(plan.stand(0.33, 1.9, 4.5)):
            add('chair', place, furniture.chair, salient=hints.furniture())
    if draw.chance(0.5) and (place := turned(plan.stand(0.36, 1.8, 4.5))):
        add('carton', place, furniture.carton)
    _lamps(draw, plan, room, tops, add)
    for _ in range(hints.ornaments()):
        size = draw.uniform(0.17, 0.32)
        if tops and draw.chance(0.4):
            add('ornament', turned(tops.pop()), draw.choice(furniture.ORNAMENTS), size * 0.6, salient=hints.ornament())
        elif place := turned(plan.stand(size, 1.5, 3.5)):
            add('ornament', place, draw.choice(furniture.ORNAMENTS), size, salient=hints.ornament())
    if draw.chance(0.65) and (place := plan.hang(0.7, draw.uniform(0.8, 1.0))):
        add('window', place, furniture.window)
    for _ in range(draw.integer(0, 2)):
        if place := plan.hang(0.45, draw.uniform(1.2, 1.5)):
            add('picture', place, furniture.picture)
    if draw.chance(0.4):
        parts.append(_rug(draw, room, colours))
    return tuple(parts), tuple(plan.circles)


class _Salience:
    """Hands out one or two salient objects per room, mostly ornaments."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._left = draw.integer(1, 2)

    def furniture(self) -> bool:
        """Whether the next piece of furniture is salient."""
        return self._take(0.15)

    def ornaments(self) -> int:
        """How many ornaments to place in the end: enough for what is left, in half of the rooms a plain one too."""
        return self._left + self._draw.integer(0, 1)

    def ornament(self) -> bool:
        """Whether the next ornament is salient."""
        return self._take(1.0)

    def _take(self, probability: float) -> bool:
        taken = self._draw.chance(probability) and self._left > 0
        self._left -= taken
        return taken


def _lamps(draw: Draw, plan: _Planner, room: Vec3, tops: list[Vec3], add: Callable) -> None:
    if draw.chance(0.4) and (position := plan.stand(0.22, 2.0, 5.0)):
        add('lamp', (position, 0.0), furniture.floor_lamp)
    if tops and draw.chance(0.4):
        add('lamp', (tops.pop(), 0.0), furniture.table_lamp)
    if draw.chance(0.4):
        place = (draw.uniform(-0.25, 0.25) * room[0], room[1], -draw.uniform(0.5, 0.8) * room[2])
        add('lamp', (place, 0.0), furniture.pendant_lamp)


def _rug(draw: Draw, room: Vec3, colours: Colours) -> Part:
    """A rug: a flat box that counts as floor, so that a strong texture edge is no class edge."""
    position = (draw.uniform(-0.2, 0.2) * room[0], 0.0, -draw.uniform(0.4, 0.6) * room[2])
    rug = Piece('floor', position, draw.uniform(-0.5, 0.5))
    look = textured(draw, colours.muted(), colours.muted(), (PLAIN, CHECKER, STRIPES, NOISE), (0.15, 0.35))
    # So flat that its sides, which no pixel should see, stay below a hundredth of a pixel.
    rug.box((0, 0.0, 0), (draw.uniform(1.2, 2.0), 0.0004, draw.uniform(1.2, 2.0)), look)
    return rug.parts[0]
