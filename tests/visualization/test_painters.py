import dataclasses

import numpy as np
import pytest
import torch

from mtl_plugins.task_specs import TASK_SPECS, get_task_spec
from mtl_plugins.visualization import PAINTERS, distinct_colours, paint, painted_range
from mtl_plugins.visualization.painters import hatch

SIZE = (21, 34)


def _data(spec, seed=0):
    rng = np.random.default_rng(seed)
    if spec.is_categorical:
        return rng.integers(0, 5 if spec.kind == 'classes' else 2, (1, *SIZE)).astype(np.uint8)
    data = rng.uniform(0.1, 0.9, (spec.channels, *SIZE)).astype(np.float32)
    return data / np.linalg.norm(data, axis=0) if spec.kind == 'normals' else data


def _hide(spec, data, mask):
    data = data.copy()
    data[:, mask] = 255 if spec.is_categorical else 0 if spec.kind in ('depth', 'normals') else np.nan
    return data


@pytest.mark.parametrize('task', TASK_SPECS)
@pytest.mark.parametrize('as_tensor', [False, True])
def test_every_task_is_painted_and_hidden_pixels_are_hatched(task, as_tensor):
    spec = TASK_SPECS[task]
    data = _data(spec)
    hidden = np.zeros(SIZE, dtype=bool)
    hidden[:5, 7:20] = True
    shown = _hide(spec, data, hidden)
    rgb = paint(spec, torch.as_tensor(shown) if as_tensor else shown)
    assert rgb.shape == (*SIZE, 3)
    assert rgb.dtype == np.uint8
    np.testing.assert_array_equal(rgb[hidden], hatch(SIZE)[hidden])
    span = painted_range(spec, shown)
    np.testing.assert_array_equal(rgb[~hidden], paint(spec, data, value_range=span)[~hidden])
    assert rgb[~hidden].std() > 5, 'the map shows something'


@pytest.mark.parametrize('task', TASK_SPECS)
def test_nothing_labelled_is_hatch_alone(task):
    spec = TASK_SPECS[task]
    blank = _hide(spec, _data(spec), np.ones(SIZE, dtype=bool))
    np.testing.assert_array_equal(paint(spec, blank), hatch(SIZE))


@pytest.mark.parametrize('task', [task for task, spec in TASK_SPECS.items() if not spec.is_categorical])
def test_values_that_are_no_numbers_are_hatched_in_predictions_too(task):
    spec = TASK_SPECS[task]
    data = _data(spec)
    data[0, 2, 3], data[0, 4, 5] = np.nan, np.inf
    rgb = paint(spec, data, valid=np.ones(SIZE, dtype=bool))
    for pixel in ((2, 3), (4, 5)):
        np.testing.assert_array_equal(rgb[pixel], hatch(SIZE)[pixel])


def test_a_predicted_depth_of_zero_is_a_depth():
    spec = get_task_spec('depth')
    data = np.zeros((1, *SIZE), np.float32)
    rgb = paint(spec, data, value_range=(0, 5), valid=np.ones(SIZE, dtype=bool))
    assert (rgb == rgb[0, 0]).all()
    assert not (paint(spec, data) == rgb).all()


def test_classes_take_the_palette():
    spec = get_task_spec('semseg')
    palette = [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    data = np.array([[0, 1], [2, 255]], np.uint8)
    rgb = paint(spec, data, palette=palette)
    assert rgb[0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert rgb[1, 0].tolist() == [7, 8, 9]
    with pytest.raises(ValueError, match=r"'semseg': the palette has 3 colours, but class 3 occurs"):
        paint(spec, data + (data == 2), palette=palette)


def test_normals_keep_their_axes():
    spec = get_task_spec('normals')
    axes = np.eye(3, dtype=np.float32)[:, None, :]  # three pixels: right, up, towards the viewer
    assert paint(spec, axes)[0].argmax(axis=1).tolist() == [0, 1, 2]
    assert paint(spec, -axes)[0].argmin(axis=1).tolist() == [0, 1, 2]


def test_number_maps_grow_in_lightness_and_clip():
    ramp = np.linspace(-1, 2, 61, dtype=np.float32)[None, None]
    for task in ('edge_texture', 'edge'):
        light = paint(get_task_spec(task), ramp).astype(float)[0] @ [0.299, 0.587, 0.114]
        inside = light[20:41]
        assert (np.diff(inside) > 0).all()
        assert (light[:20] == inside[0]).all()
        assert (light[41:] == inside[-1]).all()


def test_flat_surfaces_are_grey_and_ranges_are_symmetric():
    spec = get_task_spec('principal_curvature')
    data = np.zeros((2, *SIZE), np.float32)
    assert np.ptp(paint(spec, data)) <= 1
    data[0, :, :9] = -3
    low, high = painted_range(spec, data)
    assert -low == high == 3


@pytest.mark.parametrize(('task', 'expected'), [('depth', (2.0, 6.0)), ('reshading', (0.0, 1.0)), ('sal', (0.0, 1.0))])
def test_ranges(task, expected):
    data = np.array([[[0.0, 2.0, 6.0]]], np.float32)
    assert painted_range(get_task_spec(task), data) == expected


def test_the_data_decide_between_grey_and_colours():
    reshading, segments = get_task_spec('reshading'), get_task_spec('segment_unsup2d')
    grey = np.linspace(0, 1, 12, dtype=np.float32).reshape(1, 3, 4)
    colours = np.concatenate([grey, grey[:, ::-1], grey * 0])
    assert np.ptp(paint(segments, grey).astype(int), axis=-1).max() == 0
    np.testing.assert_array_equal(paint(reshading, colours), np.round(255 * colours).transpose(1, 2, 0))
    signed = paint(segments, 2 * grey - 1, value_range=(-1, 1))
    np.testing.assert_allclose(signed.astype(int), paint(segments, grey).astype(int), atol=1)


def test_errors_name_the_task():
    spec = dataclasses.replace(get_task_spec('depth'), painter='oil')
    with pytest.raises(KeyError, match="'depth' names the painter 'oil', but there are: classes"):
        paint(spec, np.ones((1, 2, 2)))
    with pytest.raises(ValueError, match="cannot draw task 'normals': its painter needs 3 channels, but got 1"):
        paint(get_task_spec('normals'), np.ones((1, 2, 2)))
    assert {spec.painter for spec in TASK_SPECS.values()} <= set(PAINTERS)


@pytest.mark.parametrize('count', [1, 11, 12, 40])
def test_distinct_colours_are_distinct(count):
    assert len(set(distinct_colours(count))) == count
