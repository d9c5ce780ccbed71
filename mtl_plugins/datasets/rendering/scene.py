"""Random scenes: a furnished room, its light, and the camera in it."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from mtl_plugins.errors import UserError

from . import layout
from .builder import Part
from .camera import Camera
from .draw import Colour, Draw
from .labels import LABEL
from .materials import CHECKER, NOISE, PLAIN, STRIPES, shade_of, textured
from .shapes import Face, Vec3

VERSION = 1
"""Part of every seed and of the cache's name; raise it whenever the images or targets change."""

SPLITS = ('train', 'val', 'test')


@dataclass(frozen=True)
class Light:
    """A point light, a soft light from everywhere, and fog.

    Args:
        position: World coordinates of the point light.
        colour: Linear RGB strength of the point light at 1 m, before fall-off.
        ambient: Strength of the soft light.
        fog: Extinction per metre.
        haze: Linear RGB colour of the fog.
        exposure: Factor on everything.
        noise: Standard deviation of the sensor noise, in grey values of 0..1.
    """

    position: Vec3
    colour: Colour
    ambient: float
    fog: float
    haze: Colour
    exposure: float
    noise: float


@dataclass(frozen=True)
class Scene:
    """Everything that determines an image, apart from its size.

    Args:
        room: Width (x from -w/2 to w/2), height (y from 0) and depth (z from -d to 0) in metres.
        parts: The six faces of the room in the order of :func:`~.raycast.cast`, then all solids.
        footprints: Centre x, z and radius of what stands on the floor, for contact shadows.
        light: Light and fog.
        camera: The camera.
        noise_key: Integers that seed the sensor noise.
    """

    room: Vec3
    parts: tuple[Part, ...]
    footprints: tuple[Vec3, ...]
    light: Light
    camera: Camera
    noise_key: tuple[int, ...]

    def parameters(self) -> dict[str, Any]:
        """All parameters as plain containers, floats rounded to 6 digits after the point."""
        return _plain(self)


def sample_scene(split: str, seed: int, index: int) -> Scene:
    """The scene of image ``index``.

    Args:
        split: ``'train'``, ``'val'`` or ``'test'``; scenes of different splits are drawn independently.
        seed: Seed of the whole dataset, 0 or more.
        index: Number of the image, 0 or more.

    Raises:
        ValueError: If an argument is out of its range.
    """
    if split not in SPLITS:
        raise UserError(f'split must be one of {SPLITS}, but got {split!r}')
    if seed < 0 or index < 0:
        raise UserError(f'seed and index must be 0 or more, but got seed={seed}, index={index}')
    key = (VERSION, SPLITS.index(split), int(seed), int(index))
    draw = Draw(key)
    room = (draw.uniform(3.2, 4.8), draw.uniform(2.3, 2.8), draw.uniform(3.6, 5.4))
    camera = _camera(draw, room)
    colours = layout.Colours(draw)
    faces = _faces(draw, room, colours)
    parts, footprints = layout.furnish(draw, room, camera, colours)
    return Scene(room, (*faces, *parts), footprints, _light(draw, room), camera, (*key, 1))


def _camera(draw: Draw, room: Vec3) -> Camera:
    position = (draw.uniform(-0.25, 0.25) * room[0], draw.uniform(1.15, 1.7), -draw.uniform(0.15, 0.5))
    # Turned towards the middle of the far wall, then a little off it.
    aim = math.atan2(position[0], room[2])
    return Camera(
        position,
        yaw=aim + draw.uniform(-0.35, 0.35),
        pitch=draw.uniform(-0.32, -0.1),
        roll=draw.uniform(-0.04, 0.04),
        field_of_view=math.radians(draw.uniform(58, 74)),
    )


def _faces(draw: Draw, room: Vec3, colours: layout.Colours) -> list[Part]:
    wall = textured(draw, colours.wall, shade_of(colours.wall, 0.75), (PLAIN, NOISE, STRIPES, STRIPES), (0.2, 0.5))
    # Stripes upright or level: along z they would vanish on the far wall and along y look like planks.
    wall = dataclasses.replace(wall, axis=draw.choice((0, 2, 1)))
    ceiling = textured(draw, colours.ceiling, shade_of(colours.ceiling, 0.9), (PLAIN, NOISE), (0.3, 0.8))
    second = shade_of(colours.floor, draw.uniform(0.35, 0.7))
    floor = textured(draw, colours.floor, second, (PLAIN, CHECKER, CHECKER, STRIPES, NOISE), (0.15, 0.5))
    floor = dataclasses.replace(floor, axis=draw.choice((0, 2)))
    looks = {'wall': wall, 'floor': floor, 'ceiling': ceiling}
    sides = (
        (0, -room[0] / 2, 1, 'wall'), (0, room[0] / 2, -1, 'wall'),
        (1, 0.0, 1, 'floor'), (1, room[1], -1, 'ceiling'),
        (2, -room[2], 1, 'wall'), (2, 0.0, -1, 'wall'),
    )  # fmt: skip
    return [Part(Face(axis, offset, inward), looks[kind], LABEL[kind]) for axis, offset, inward, kind in sides]


def _light(draw: Draw, room: Vec3) -> Light:
    position = (
        draw.uniform(-0.4, 0.4) * room[0],
        room[1] - draw.uniform(0.1, 0.5),
        -draw.uniform(0.15, 0.85) * room[2],
    )
    warmth, power = draw.uniform(-0.12, 0.12), draw.uniform(1.1, 1.8)
    colour = (power * (1 + warmth), power, power * (1 - warmth))
    fog = draw.uniform(0.02, 0.07) if draw.chance(0.5) else 0.0
    grey = draw.uniform(0.35, 0.7)
    return Light(
        position,
        colour,
        ambient=draw.uniform(0.15, 0.35),
        fog=fog,
        haze=(grey, grey, min(1.0, grey * 1.08)),
        exposure=draw.uniform(0.8, 1.15),
        noise=draw.uniform(0.004, 0.02),
    )


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        # The class name too: a sphere and a cylinder may have the same numbers.
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {'type': type(value).__name__, **fields}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return round(value, 6) + 0.0 if isinstance(value, float) else value
