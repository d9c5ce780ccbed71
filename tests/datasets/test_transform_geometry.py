"""Augmentations against the renderer: what a transform makes of an image is what a camera would have seen.

**Depth and zoom.** A camera with focal length f (pixels) sees the point (X, Y, Z) at x = f X / Z, where Z is the
distance along the viewing axis. Enlarging the image by s moves it to s x. There are three readings of the larger image;
``RandomScale``, which divides depth by s, takes those in which the lens stays the same:

1. *The same scene through a lens of focal length s f:* s x = (s f) X / Z. Depth stays Z. Hence ``s * scaled depth``
   must equal the depth rendered with the longer lens.
2. *A scene squeezed along the viewing axis, through the same lens:* s x = f X / (Z / s). Depth is Z / s for every pixel
   of any scene: exactly what ``RandomScale`` says.
3. *The same scene from closer by, through the same lens:* moving the camera by m along its axis gives f X / (Z - m),
   which is s x only if Z - m = Z / s: for all points of one depth Z at once (m = Z - Z / s), not for several. A wall
   that faces the camera has one depth: there, and only there, "closer" and "scaled" agree.

For s = 3 the centre of every pixel of the small image is the centre of a pixel of the large one (3 i + 1), so that the
statements can be checked without any tolerance for sampling.

**Rotation.** Turning the image counter-clockwise by an angle is rolling the camera clockwise by it: depth stays,
normals turn with the image, all other labels move.
"""

import dataclasses
import math

import numpy as np
import pytest

from mtl_plugins.datasets.rendering import render_scene, sample_scene
from mtl_plugins.datasets.rendering.builder import Part
from mtl_plugins.datasets.rendering.camera import Camera
from mtl_plugins.datasets.rendering.shapes import Box, Face
from mtl_plugins.datasets.transforms import MultiTaskRandomAffine, MultiTaskRandomScale, MultiTaskResize

SIZE = (30, 40)
TASKS = ('semseg', 'depth', 'normals', 'edge', 'sal', 'reshading')
AHEAD = Camera((0.2, 1.3, -0.2), yaw=0.0, pitch=0.0, roll=0.0, field_of_view=1.1)


def render(scene, size, focal=None):
    """The rendered sample; with a focal length in pixels other than the camera's own if one is given."""
    if focal is not None:
        angle = 2 * math.atan(0.5 * math.sqrt(size[0] * size[1]) / focal)
        scene = dataclasses.replace(scene, camera=dataclasses.replace(scene.camera, field_of_view=angle))
        assert scene.camera.focal_length(size) == pytest.approx(focal)
    targets = render_scene(scene, size)
    sample = {'img': targets['img'][..., ::-1].copy(), **{f'gt_{task}': targets[f'gt_{task}'] for task in TASKS}}
    return {**sample, 'seg_fields': [f'gt_{task}' for task in TASKS]}


def room_of_boxes(squeeze=1.0, camera=AHEAD):
    """An empty room with three boxes, squeezed towards the camera along its (the world's) z axis."""
    template = sample_scene('train', 0, 0)
    looks = template.parts[0]

    def closer(z):
        return camera.position[2] + (z - camera.position[2]) / squeeze

    parts = [
        dataclasses.replace(part, shape=Face(2, closer(part.shape.offset), part.shape.inward))
        if part.shape.axis == 2
        else part
        for part in template.parts[:6]
    ]
    solids = (
        ((-0.613, 0.417, -1.9), (0.307, 0.409, 0.35)),
        ((0.7, 0.9, -2.6), (0.4, 0.3, 0.2)),
        ((0.1, 1.8, -1.4), (0.2, 0.15, 0.3)),
    )
    for number, ((x, y, z), (a, b, c)) in enumerate(solids):
        box = Box((x, y, closer(z)), (a, b, c / squeeze))
        parts.append(Part(box, looks.material, looks.label + 1 + number))
    return dataclasses.replace(template, parts=tuple(parts), footprints=(), camera=camera)


def scaled(sample, factor):
    return MultiTaskRandomScale((factor, factor))(dict(sample))


def large(size, factor):
    return int(size[0] * factor), int(size[1] * factor)


@pytest.mark.parametrize('index', range(3))
def test_scaling_is_a_longer_lens_with_depth_divided(index):
    scene = sample_scene('val', 0, index)
    focal = scene.camera.focal_length(SIZE)
    small, seen = render(scene, SIZE), render(scene, large(SIZE, 3), 3 * focal)
    out = scaled(small, 3.0)
    centres = np.s_[1::3, 1::3]
    np.testing.assert_allclose(3 * out['gt_depth'][centres], seen['gt_depth'][centres], rtol=1e-5)
    np.testing.assert_array_equal(out['gt_semseg'][centres], seen['gt_semseg'][centres])
    np.testing.assert_allclose(out['gt_normals'][centres], seen['gt_normals'][centres], atol=1e-5)


@pytest.mark.parametrize('factor', [0.5, 0.8, 1.7])
def test_scaling_is_a_longer_lens_at_any_factor_away_from_outlines(factor):
    scene = sample_scene('val', 0, 1)
    size = (60, 80)
    small = render(scene, size)
    seen = render(scene, large(size, factor), factor * scene.camera.focal_length(size))
    out = scaled(small, factor)
    relative = np.abs(factor * out['gt_depth'] / seen['gt_depth'] - 1)
    assert np.median(relative) < 0.02
    assert (relative < 0.06).mean() > 0.93
    assert (out['gt_semseg'] == seen['gt_semseg']).mean() > 0.9


def test_scaling_is_a_squeezed_scene_through_the_same_lens():
    focal = AHEAD.focal_length(SIZE)
    small = render(room_of_boxes(), SIZE)
    squeezed = render(room_of_boxes(squeeze=3.0), large(SIZE, 3), focal)
    out = scaled(small, 3.0)
    centres = np.s_[1::3, 1::3]
    assert len(np.unique(np.round(small['gt_depth'], 2))) > 20, 'a scene with depth'
    np.testing.assert_allclose(out['gt_depth'][centres], squeezed['gt_depth'][centres], rtol=1e-5)


@pytest.mark.parametrize('factor', [1.25, 2.0, 3.0])
def test_scaling_is_a_closer_camera_where_the_scene_has_one_depth(factor):
    template = sample_scene('train', 0, 0)
    empty = dataclasses.replace(template, parts=template.parts[:6], footprints=(), camera=AHEAD)
    distance = empty.room[2] + AHEAD.position[2]
    moved = dataclasses.replace(AHEAD, position=(*AHEAD.position[:2], -empty.room[2] + distance / factor))
    size = large(SIZE, factor)
    closer = render(dataclasses.replace(empty, camera=moved), size, AHEAD.focal_length(SIZE))
    out = scaled(render(empty, SIZE), factor)
    wall = np.abs(closer['gt_depth'] - distance / factor) < 1e-5
    assert 50 < wall.sum() < wall.size
    same = np.abs(out['gt_depth'] - closer['gt_depth']) < 1e-5
    # The outline of the wall is known to half a pixel of the small image only.
    assert same[wall].mean() > 0.9
    inner = np.s_[size[0] // 2 - 3 : size[0] // 2 + 3, size[1] // 2 - 3 : size[1] // 2 + 3]
    assert wall[inner].all()
    assert same[inner].all()
    assert (out['gt_semseg'] == closer['gt_semseg'])[inner].all()
    np.testing.assert_allclose(out['gt_normals'][inner], closer['gt_normals'][inner], atol=1e-6)
    # Elsewhere they do not: the floor at the lower edge is as near as it was.
    assert not same[-1].any()


def test_resizing_leaves_depth_alone():
    scene = sample_scene('val', 0, 0)
    small, seen = render(scene, SIZE), render(scene, (90, 120))
    out = MultiTaskResize((90, 120))(dict(small))
    centres = np.s_[1::3, 1::3]
    np.testing.assert_allclose(out['gt_depth'][centres], seen['gt_depth'][centres], rtol=1e-5)


@pytest.mark.parametrize('scale', [1.0, 1.3])
@pytest.mark.parametrize('angle', [90.0, 20.0, -13.0])
def test_rotation_is_a_rolled_camera(angle, scale):
    size = (64, 64)
    scene = sample_scene('val', 0, 2)
    scene = dataclasses.replace(scene, camera=dataclasses.replace(scene.camera, roll=0.0))
    rolled = dataclasses.replace(scene, camera=dataclasses.replace(scene.camera, roll=-math.radians(angle)))
    seen = render(rolled, size, scale * scene.camera.focal_length(size))
    out = MultiTaskRandomAffine((angle, angle), (scale, scale))(render(scene, size))
    known = out['gt_depth'] > 0
    assert known.mean() > 0.75
    depth = np.abs(scale * out['gt_depth'] / seen['gt_depth'] - 1)[known]
    normals = np.abs(out['gt_normals'] - seen['gt_normals']).max(-1)[known]
    semseg = (out['gt_semseg'] == seen['gt_semseg'])[known]
    if (angle, scale) == (90, 1):  # pixels fall on pixels
        assert known.all()
        assert depth.max() < 1e-4
        assert normals.max() < 1e-4
        assert semseg.all()
    assert (depth < 0.05).mean() > 0.9
    assert np.median(normals) < 1e-5
    assert (normals < 0.02).mean() > 0.75  # the rest: balls, cylinders, outlines
    assert semseg.mean() > 0.9
    # The opposite turn of the normals would show.
    wrong = MultiTaskRandomAffine((-angle, -angle), (scale, scale))(render(scene, size))
    assert (np.abs(wrong['gt_normals'] - seen['gt_normals']).max(-1) < 0.02).mean() < 0.5
