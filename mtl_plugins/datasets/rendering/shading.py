"""The colour picture of a scene."""

import numpy as np

from .draw import Draw
from .materials import albedo
from .raycast import Hits, cast
from .scene import Scene

SUPERSAMPLING = 2
_GAMMA = 1 / 2.2
_CORNER = 0.22  # metres over which the room's corners darken
_SHADOW_REACH = 0.998  # of the way from the light to a point: further on is the point's own surface
_FLOOR_HEIGHT = 0.02  # the floor and what lies flat on it receive contact shadows


def render_rgb(scene: Scene, size: tuple[int, int]) -> np.ndarray:
    """The picture as ``(H, W, 3)`` RGB uint8, averaged over 2 x 2 rays per pixel."""
    fine = (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING)
    hits = cast(scene.camera, [part.shape for part in scene.parts], fine)
    linear = shade(scene, hits).reshape(3, size[0], SUPERSAMPLING, size[1], SUPERSAMPLING).mean((2, 4))
    image = np.clip(linear, 0, 1) ** _GAMMA
    image += (_unit_noise(scene, image.shape) * scene.light.noise).astype(image.dtype)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0).copy()


def shade(scene: Scene, hits: Hits) -> np.ndarray:
    """Linear RGB ``(3, N)`` of the points that were hit: soft and point light (Lambert), highlights, fog."""
    light, dtype = scene.light, np.float32
    materials = [part.material for part in scene.parts]
    points, normals = hits.points.astype(dtype), hits.normals.astype(dtype)
    base = albedo(materials, hits.shape, hits.local.astype(dtype))
    emission = np.array([m.emission for m in materials], dtype)[hits.shape]
    gloss = np.array([m.gloss for m in materials], dtype)[hits.shape]

    to_light = np.array(light.position, dtype)[:, None] - points
    distance = np.sqrt((to_light * to_light).sum(0))
    to_light /= distance
    facing = np.maximum((normals * to_light).sum(0), 0) / (1 + 0.1 * distance * distance)
    facing[in_shadow(scene, hits)] = 0
    soft = light.ambient * (0.8 + 0.2 * normals[1]) * _occlusion(scene, hits, points)
    colour = np.array(light.colour, dtype)[:, None]
    result = base * (colour * facing + soft)

    shiny = np.flatnonzero(gloss)
    if shiny.size:
        to_eye = np.array(scene.camera.position, dtype)[:, None] - points[:, shiny]
        halfway = to_eye / np.linalg.norm(to_eye, axis=0) + to_light[:, shiny]
        halfway /= np.linalg.norm(halfway, axis=0)
        result[:, shiny] += gloss[shiny] * np.maximum((normals[:, shiny] * halfway).sum(0), 0) ** 40
    result += base * emission
    if light.fog:
        seen = np.exp(-light.fog * hits.depth.astype(dtype))
        result = result * seen + np.array(light.haze, dtype)[:, None] * (1 - seen)
    return result * dtype(light.exposure)


def in_shadow(scene: Scene, hits: Hits) -> np.ndarray:
    """Which of the N points the point light does not reach, ``(N,)`` bool; what glows casts no shadow."""
    origin = np.array(scene.light.position)
    rays = hits.points - origin[:, None]
    squared = (rays * rays).sum(0)
    dark = np.zeros(squared.shape, bool)
    for part in scene.parts[6:]:
        if part.material.emission:
            continue
        corners = part.shape.corners()
        centre = corners.mean(1)
        to_centre = centre - origin
        radius = np.linalg.norm(corners[:, 0] - centre)
        # Most rays pass a ball around the solid at a distance: only the others are worth an exact test.
        along = to_centre @ rays
        near = np.flatnonzero((along > 0) & ((to_centre @ to_centre - radius**2) * squared < along * along))
        if near.size:
            dark[near] |= part.shape.intersect(origin, rays[:, near]) < _SHADOW_REACH
    return dark


def _occlusion(scene: Scene, hits: Hits, points: np.ndarray) -> np.ndarray:
    """Soft light that arrives, 0..1: less in the room's corners and on the floor under furniture."""
    factor = np.ones(points.shape[1], points.dtype)
    on_room = np.flatnonzero(hits.shape < 6)
    at = points[:, on_room]
    width, height, depth = scene.room
    gaps = np.stack([width / 2 - np.abs(at[0]), np.minimum(at[1], height - at[1]), at[2] + depth]).astype(points.dtype)
    # The smallest gap is to the wall that the point lies on, the next one to the nearest corner.
    gaps.partition(1, axis=0)
    factor[on_room] -= 0.45 * np.exp(-gaps[1] / _CORNER)
    on_floor = np.flatnonzero((points[1] < _FLOOR_HEIGHT) & (hits.normals[1] > 0.5))
    x, z = points[0, on_floor], points[2, on_floor]
    for centre_x, centre_z, radius in scene.footprints:
        squared = ((x - centre_x) ** 2 + (z - centre_z) ** 2) / radius**2
        factor[on_floor] *= 1 - 0.65 * np.exp(-squared * squared)
    return factor


def _unit_noise(scene: Scene, shape: tuple[int, ...]) -> np.ndarray:
    """Noise of mean 0 and variance 1 (the sum of two uniform numbers), from the generator's uniform stream only."""
    rng = Draw(scene.noise_key).rng
    return (rng.random(shape) + rng.random(shape) - 1) * np.sqrt(6)
