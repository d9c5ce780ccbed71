"""The axes of stored normals: conversion is exact, and measuring finds them again."""

import itertools

import numpy as np
import pytest
from exporters.scenes import render_scenes

from mtl_plugins.datasets.files import NormalAxes, measure_axes
from mtl_plugins.datasets.files.axes import normals_from_depth

ALL = [
    tuple(sign + axis for sign, axis in zip(signs, order))
    for order in itertools.permutations('xyz')
    for signs in itertools.product(('', '-'), repeat=3)
]


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    cache = tmp_path_factory.mktemp('cache')
    return [(s['gt_depth'], s['gt_normals']) for s in render_scenes('train', 3, (64, 96), cache_dir=cache)]


def plane(normal, focal=100.0, size=(40, 60), distance=2.0):
    """Depth of the plane n . p = -distance, by the camera's equation."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    ray = np.stack([(columns - 29.5) / focal, -(rows - 19.5) / focal, -np.ones(size)], -1)
    return -distance / (ray @ np.asarray(normal, float))


@pytest.mark.parametrize('normal', [(0, 0, 1), (0.6, 0, 0.8), (0, 0.6, 0.8), (-0.48, 0.36, 0.8)])
def test_normals_of_planes(normal):
    depth = plane(normal)
    assert depth.min() > 0
    normals = normals_from_depth(depth, 100.0)
    known = normals.any(-1)
    assert known.mean() > 0.5
    np.testing.assert_allclose(
        normals[8:-8, 8:-8][known[8:-8, 8:-8]], np.broadcast_to(normal, (known[8:-8, 8:-8].sum(), 3)), atol=0.02
    )


def test_unknown_depth_and_steps_give_no_normal():
    depth = np.full((30, 30), 2.0)
    depth[:, 15:] = 4
    depth[20:, :10] = 0
    depth[:5, 20:] = np.nan
    normals = normals_from_depth(depth, 100.0)
    assert not normals[:, 13:17].any()
    assert not normals[20:, :10].any()
    assert not normals[:5, 20:].any()
    np.testing.assert_allclose(normals[10, 5], [0, 0, 1], atol=0.02)


def test_conversion_is_a_signed_permutation_and_its_inverse():
    normals = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    normals[0] = 0
    assert len({NormalAxes(axes).to_ours(normals).tobytes() for axes in ALL}) == 48
    for axes in ALL:
        converted = NormalAxes(axes)
        np.testing.assert_array_equal(converted.to_ours(converted.from_ours(normals)), normals)
        assert not np.signbit(converted.to_ours(normals)[0]).any()
        assert converted.to_ours(normals).dtype == np.float32
    down = NormalAxes(('z', 'x', '-y')).to_ours(np.array([[[1, 2, 3]]], np.float32))
    assert down.tolist() == [[[2, -3, 1]]]


@pytest.mark.parametrize('axes', ALL[::5])
@pytest.mark.parametrize('factor', [0.5, 1, 2])
def test_measured_axes_are_those_of_the_files(scenes, axes, factor):
    stored = [(depth, NormalAxes(axes).from_ours(normals)) for depth, normals in scenes]
    found, agreement = measure_axes(stored, 90 * factor)
    assert found.axes == axes
    assert 0.8 < agreement <= 1


def test_random_normals_do_not_agree(scenes):
    rng = np.random.default_rng(0)
    _, agreement = measure_axes([(depth, rng.normal(size=normals.shape)) for depth, normals in scenes], 90)
    assert agreement < 0.3
    assert measure_axes([], 90)[1] == 0


@pytest.mark.parametrize('axes', ['xyz', ('x', 'y'), ('x', 'x', 'z'), ('x', 'y', '--z'), ('a', 'y', 'z'), ()])
def test_bad_axes(axes):
    with pytest.raises(ValueError, match='normal_axes must name'):
        NormalAxes(axes)
