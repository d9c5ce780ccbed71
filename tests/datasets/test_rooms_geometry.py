"""The ray caster against slow, obvious implementations and identities of geometry."""

import dataclasses
import math

import numpy as np
import pytest

from mtl_plugins.datasets.rendering import sample_scene
from mtl_plugins.datasets.rendering.camera import Camera
from mtl_plugins.datasets.rendering.raycast import cast
from mtl_plugins.datasets.rendering.scene import Scene
from mtl_plugins.datasets.rendering.shading import in_shadow
from mtl_plugins.datasets.rendering.shapes import Box, Capsule, Cylinder, Face, Sphere
from mtl_plugins.datasets.rendering.targets import CURVATURE_SCALE, label_edges, occlusion_edges, render_targets

SIZE = (40, 48)


def distance_to(shape, points):
    """Signed distance of ``(3, N)`` points, written without the shapes' own frames."""
    if isinstance(shape, Sphere):
        return np.linalg.norm(points - np.array(shape.centre)[:, None], axis=0) - shape.radius
    if isinstance(shape, Box):
        p = points - np.array(shape.centre)[:, None]
        cos, sin = math.cos(-shape.yaw), math.sin(-shape.yaw)
        p = np.stack([cos * p[0] + sin * p[2], p[1], -sin * p[0] + cos * p[2]])
        q = np.abs(p) - np.array(shape.half)[:, None]
        return np.linalg.norm(np.maximum(q, 0), axis=0) + np.minimum(q.max(0), 0)
    start, end = np.array(shape.start), np.array(shape.end)
    length = np.linalg.norm(end - start)
    along = (end - start) / length
    height = along @ (points - start[:, None])
    if isinstance(shape, Capsule):
        nearest = start[:, None] + along[:, None] * np.clip(height, 0, length)
        return np.linalg.norm(points - nearest, axis=0) - shape.radius
    radial = np.linalg.norm(points - start[:, None] - along[:, None] * height, axis=0) - shape.radius
    axial = np.abs(height - length / 2) - length / 2
    return np.hypot(np.maximum(radial, 0), np.maximum(axial, 0)) + np.minimum(np.maximum(radial, axial), 0)


SHAPES = [
    Sphere((0.2, -0.1, 0.3), 0.6),
    Box((0.1, 0.2, 0.0), (0.5, 0.3, 0.7), 0.7),
    Box((0.0, 0.0, 0.0), (0.6, 0.6, 0.1)),
    Cylinder((-0.3, -0.5, 0.1), (0.4, 0.6, -0.2), 0.35),
    Cylinder((0.0, -0.5, 0.0), (0.0, 0.5, 0.0), 0.5),
    Capsule((-0.4, -0.3, 0.2), (0.3, 0.4, -0.3), 0.3),
    Capsule((0.0, 0.0, -0.6), (0.0, 0.0, 0.6), 0.4),
]


@pytest.mark.parametrize('shape', SHAPES, ids=lambda shape: type(shape).__name__)
@pytest.mark.parametrize('origin', [(0.0, 0.0, 3.0), (2.0, 1.5, -1.8), (0.1, 2.5, 0.0)])
def test_intersections_agree_with_sphere_tracing(shape, origin):
    rng, origin = np.random.default_rng(0), np.array(origin)
    rays = rng.uniform(-0.9, 0.9, (3, 600)) - origin[:, None]
    rays *= rng.uniform(0.5, 2, 600)  # not of unit length, as the camera's
    t = shape.intersect(origin, rays)
    unit = rays / np.linalg.norm(rays, axis=0)
    travelled, closest = np.zeros(600), np.full(600, np.inf)
    for _ in range(400):
        gap = distance_to(shape, origin[:, None] + unit * travelled)
        closest = np.minimum(closest, gap)
        travelled += np.where(travelled < 20, gap, 0)
    hit = closest < 1e-6
    clear = hit | (closest > 1e-3)  # leaves out the rays that graze
    assert 50 < hit.sum() < 600
    np.testing.assert_array_equal(np.isfinite(t)[clear], hit[clear])
    sure = hit & np.isfinite(t)
    np.testing.assert_allclose(t[sure] * np.linalg.norm(rays[:, sure], axis=0), travelled[sure], atol=2e-3)
    points = origin[:, None] + rays[:, sure] * t[sure]
    assert np.abs(distance_to(shape, points)).max() < 1e-9

    surface = shape.surface(points)
    np.testing.assert_allclose(np.linalg.norm(surface.normals, axis=0), 1, atol=1e-12)
    assert ((surface.normals * rays[:, sure]).sum(0) <= 1e-9).all()  # only what faces the ray can be entered
    step = 1e-6
    gradient = np.stack(
        [
            (distance_to(shape, points + step * axis[:, None]) - distance_to(shape, points - step * axis[:, None]))
            / (2 * step)
            for axis in np.eye(3)
        ]
    )
    agree = (gradient * surface.normals).sum(0) > 1 - 1e-4
    assert agree.mean() > 0.99  # the rest lies within a micrometre of a ridge, where the gradient is not defined


def test_every_solid_lies_in_its_corners():
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        points = rng.uniform(-1.5, 1.5, (3, 4000))
        inside = points[:, distance_to(shape, points) < 0]
        corners = shape.corners()
        assert (inside >= corners.min(1)[:, None]).all()
        assert (inside <= corners.max(1)[:, None]).all()


def test_curvature_of_each_kind():
    ball, cylinder, capsule = (
        Sphere((0, 0, 0), 0.5),
        Cylinder((0, 0, 0), (0, 1, 0), 0.25),
        Capsule((0, 0, 0), (0, 1, 0), 0.25),
    )
    at = np.array([[0.25, 0.5, 0.0], [0.1, 1.0, 0.0], [0.0, 1.25, 0.0]]).T
    np.testing.assert_allclose(ball.surface(np.array([[0.5], [0.0], [0.0]])).curvature, [[2], [2]])
    np.testing.assert_allclose(cylinder.surface(at[:, :2]).curvature, [[4, 0], [0, 0]])  # side, flat end
    np.testing.assert_allclose(capsule.surface(at[:, ::2]).curvature, [[4, 4], [0, 4]])  # side, round end
    assert not Box((0, 0, 0), (1, 1, 1)).surface(np.array([[1.0], [0.0], [0.0]])).curvature.any()


def empty_room(camera):
    template = sample_scene('train', 0, 0)
    return dataclasses.replace(template, parts=template.parts[:6], footprints=(), camera=camera)


def test_depth_is_the_distance_along_the_viewing_axis():
    far = empty_room(Camera((0.0, 1.2, -1.0), 0, 0, 0, 1.0))
    room_depth = far.room[2]
    near = empty_room(dataclasses.replace(far.camera, position=(0.0, 1.2, -(1 + room_depth) / 2)))
    depths = []
    for scene in (far, near):
        hits = cast(scene.camera, [part.shape for part in scene.parts], SIZE)
        wall = (hits.shape == 4).reshape(SIZE)
        assert wall[SIZE[0] // 2, SIZE[1] // 2]
        depth = hits.depth.reshape(SIZE)[wall]
        np.testing.assert_allclose(depth, depth[0], rtol=1e-12)  # a wall that faces the camera has one depth
        depths.append(depth[0])
    assert depths[0] == pytest.approx(room_depth - 1)
    assert depths[1] == pytest.approx(depths[0] / 2)


def scaled(value, factor):
    """The scene with all lengths multiplied: every tuple of coordinates and every radius."""
    if isinstance(value, Face):
        return dataclasses.replace(value, offset=value.offset * factor)
    fields = {'centre', 'half', 'start', 'end', 'radius'} & {f.name for f in dataclasses.fields(value)}
    times = {
        name: tuple(factor * x for x in getattr(value, name)) if name != 'radius' else factor * value.radius
        for name in fields
    }
    return dataclasses.replace(value, **times)


@pytest.mark.parametrize('index', range(3))
def test_a_smaller_world_looks_the_same_and_is_proportionally_closer(index):
    scene, factor = sample_scene('val', 0, index), 0.37
    position = tuple(factor * x for x in scene.camera.position)
    shapes = [part.shape for part in scene.parts]
    full = cast(scene.camera, shapes, SIZE)
    small_camera = dataclasses.replace(scene.camera, position=position)
    small = cast(small_camera, [scaled(shape, factor) for shape in shapes], SIZE)
    # Solids that touch (a pillow on a seat) may win or lose by rounding on single pixels.
    assert (full.shape != small.shape).mean() < 2e-3
    np.testing.assert_allclose(small.depth, factor * full.depth, rtol=1e-6)


@pytest.mark.parametrize('index', range(4))
def test_pixel_boxes_leave_nothing_out(index, monkeypatch):
    scene = sample_scene('train', 5, index)
    shapes = [part.shape for part in scene.parts]
    fast = cast(scene.camera, shapes, SIZE)
    monkeypatch.setattr(Camera, 'pixel_box', lambda self, corners, size: (slice(None), slice(None)))
    slow = cast(scene.camera, shapes, SIZE)
    np.testing.assert_array_equal(fast.shape, slow.shape)
    np.testing.assert_array_equal(fast.depth, slow.depth)


@pytest.mark.parametrize('index', range(3))
def test_normals_agree_with_the_back_projected_depth(index):
    scene = sample_scene('train', 1, index)
    hits = cast(scene.camera, [part.shape for part in scene.parts], SIZE)
    targets = render_targets(scene, np.zeros((*SIZE, 3), np.uint8))
    depth, normals = hits.depth.reshape(SIZE), targets['gt_normals']
    focal = scene.camera.focal_length(SIZE)
    x = (np.arange(SIZE[1]) + 0.5 - SIZE[1] / 2) / focal
    y = (SIZE[0] / 2 - np.arange(SIZE[0]) - 0.5) / focal
    points = np.stack([x[None] * depth, y[:, None] * depth, -depth], -1)
    across, down = points[:-1, 1:] - points[:-1, :-1], points[1:, :-1] - points[:-1, :-1]
    measured = np.cross(down, across)
    measured /= np.linalg.norm(measured, axis=-1, keepdims=True)
    shape = hits.shape.reshape(SIZE)
    face = (shape < 6)[:-1, :-1] & (shape[:-1, :-1] == shape[:-1, 1:]) & (shape[:-1, :-1] == shape[1:, :-1])
    assert face.mean() > 0.1
    np.testing.assert_allclose(measured[face], normals[:-1, :-1][face], atol=1e-5)


@pytest.mark.parametrize('index', range(4))
def test_normals_are_unit_vectors_towards_the_viewer(index):
    scene = sample_scene('test', 0, index)
    targets = render_targets(scene, np.zeros((*SIZE, 3), np.uint8))
    np.testing.assert_allclose(np.linalg.norm(targets['gt_normals'], axis=-1), 1, atol=1e-6)
    focal = scene.camera.focal_length(SIZE)
    y, x = (np.mgrid[: SIZE[0], : SIZE[1]] + 0.5 - np.array(SIZE)[:, None, None] / 2) / focal
    view = np.stack([-x, y, np.ones(SIZE)], -1)
    cosine = (targets['gt_normals'] * view).sum(-1) / np.linalg.norm(view, axis=-1)
    assert cosine.min() > -1e-6
    np.testing.assert_allclose(targets['gt_reshading'], np.clip(cosine, 0, 1), atol=1e-5)


def test_walls_are_flat_and_balls_are_not():
    scene = sample_scene('train', 0, 0)
    hits = cast(scene.camera, [part.shape for part in scene.parts], SIZE)
    curvature = render_targets(scene, np.zeros((*SIZE, 3), np.uint8))['gt_principal_curvature'].reshape(-1, 2)
    assert not curvature[hits.shape < 6].any()
    balls = [n for n in np.unique(hits.shape) if isinstance(scene.parts[n].shape, Sphere)]
    assert balls
    for number in balls:
        expected = min(1, CURVATURE_SCALE / scene.parts[number].shape.radius)
        np.testing.assert_allclose(curvature[hits.shape == number], expected, rtol=1e-6)


def test_shadow_falls_away_from_the_light():
    template = sample_scene('train', 0, 0)
    ball = dataclasses.replace(template.parts[0], shape=Sphere((0.0, 1.0, -2.0), 0.2))
    light = dataclasses.replace(template.light, position=(0.0, 2.0, -2.0))
    camera = Camera((0.0, 1.5, -0.2), 0, -0.6, 0, 1.2)
    scene: Scene = dataclasses.replace(template, parts=(*template.parts[:6], ball), light=light, camera=camera)
    hits = cast(camera, [part.shape for part in scene.parts], (64, 64))
    dark = in_shadow(scene, hits)
    floor = hits.shape == 2
    radius = np.hypot(hits.points[0], hits.points[2] + 2)
    # Tangent rays from 1 m above the centre: sine 0.2, so 2 m below the light the shadow has this radius.
    edge = 2 * math.tan(math.asin(0.2))
    assert dark[floor & (radius < edge - 0.01)].all()
    assert not dark[floor & (radius > edge + 0.01)].any()
    assert (floor & dark).sum() > 10
    on_ball = hits.shape == 6
    lit = (hits.normals * (np.array(light.position)[:, None] - hits.points)).sum(0)
    assert not dark[on_ball & (lit > 0.1)].any()


def test_label_edges_see_classes_orientation_and_distance():
    def edges(change):
        labels, normals, depth = np.zeros((96, 96), int), np.zeros((96, 96, 3)), np.full((96, 96), 2.0)
        normals[..., 2] = 1
        change(labels, normals, depth)
        return label_edges(labels, normals, depth)

    def tilt(angle):
        def change(labels, normals, depth):
            normals[:, 40:] = (math.sin(angle), 0, math.cos(angle))

        return change

    assert not edges(lambda *maps: None).any()
    by_class = edges(lambda labels, normals, depth: labels.__setitem__((slice(30, None), slice(None)), 1))
    assert set(np.flatnonzero(by_class.any(1))) == {29}  # one pixel wide
    assert set(np.flatnonzero(edges(tilt(0.7)).any(0))) == {39}
    assert not edges(tilt(0.6)).any()  # cos 0.6 > 0.8
    assert edges(lambda labels, normals, depth: depth.__setitem__((slice(None), slice(50, None)), 2.3)).any()
    assert not edges(lambda labels, normals, depth: depth.__setitem__((slice(None), slice(50, None)), 2.1)).any()


def test_occlusion_edges_measure_the_step():
    depth = np.full((20, 20), 1.0)
    depth[:, 10:] = 1.2**2
    response = occlusion_edges(depth)
    assert response[10].argmax() in (9, 10)
    assert response.max() == pytest.approx(0.4)
    depth[:, 10:] = 9
    assert occlusion_edges(depth).max() == 1
