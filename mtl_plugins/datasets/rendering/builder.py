"""Putting solids together: parts of a scene, and the local frame in which a piece of furniture is described."""

import math
from dataclasses import dataclass, field

from .labels import LABEL
from .materials import Material
from .shapes import Box, Capsule, Cylinder, Face, Shape, Sphere, Vec3


@dataclass(frozen=True)
class Part:
    """One solid of a scene with all its labels.

    Args:
        shape: Geometry.
        material: Look.
        label: Class index of semantic segmentation, 255 for unlabelled.
        human_part: Index of the body part, 0 for everything else.
        salient: Whether it belongs to a salient object.
    """

    shape: Face | Shape
    material: Material
    label: int
    human_part: int = 0
    salient: bool = False


@dataclass
class Piece:
    """A piece of furniture under construction, in its own frame: y up, front towards +z, origin on its base.

    Args:
        kind: Class name of all its parts, see ``labels.LABEL``.
        position: World coordinates of the origin.
        yaw: Turn about the vertical axis in radians.
        salient: Whether it is a salient object.
    """

    kind: str
    position: Vec3
    yaw: float = 0.0
    salient: bool = False
    parts: list[Part] = field(default_factory=list)

    def world(self, point: Vec3) -> Vec3:
        """World coordinates of a point of the local frame."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        x, y, z = point
        return (
            self.position[0] + cos * x + sin * z,
            self.position[1] + y,
            self.position[2] - sin * x + cos * z,
        )

    def box(self, centre: Vec3, size: Vec3, material: Material, yaw: float = 0.0) -> None:
        """Add a box with full edge lengths ``size``."""
        half = (size[0] / 2, size[1] / 2, size[2] / 2)
        self._add(Box(self.world(centre), half, self.yaw + yaw), material)

    def sphere(self, centre: Vec3, radius: float, material: Material, human_part: int = 0) -> None:
        """Add a ball."""
        self._add(Sphere(self.world(centre), radius), material, human_part)

    def cylinder(self, start: Vec3, end: Vec3, radius: float, material: Material) -> None:
        """Add a cylinder with flat ends."""
        self._add(Cylinder(self.world(start), self.world(end), radius), material)

    def capsule(self, start: Vec3, end: Vec3, radius: float, material: Material, human_part: int = 0) -> None:
        """Add a cylinder with round ends."""
        self._add(Capsule(self.world(start), self.world(end), radius), material, human_part)

    def _add(self, shape: Shape, material: Material, human_part: int = 0) -> None:
        self.parts.append(Part(shape, material, LABEL[self.kind], human_part, self.salient))
