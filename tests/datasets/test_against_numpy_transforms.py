# ruff: noqa: NPY002 - mmcv's transforms draw from numpy's global generator
"""Every transform against loops over pixels (slow_transforms.py), on samples with unlabelled regions and empty ones."""

import colorsys
import copy

import numpy as np
import pytest
from mmseg.datasets.transforms import PhotoMetricDistortion

from mtl_plugins.datasets.transforms import (
    CheckTargets,
    FastPhotoMetricDistortion,
    IgnoreEmptyParts,
    MultiTaskPad,
    MultiTaskRandomAffine,
    MultiTaskRandomCrop,
    MultiTaskRandomFlip,
    MultiTaskRandomScale,
    MultiTaskResize,
    PackMultiTaskInputs,
)
from mtl_plugins.datasets.transforms.resizing import resize_nearest
from mtl_plugins.task_specs import TASK_SPECS, get_task_spec

from . import slow_transforms as slow
from .dense_samples import ALL_TASKS, arrays, assert_same, make_sample

LABELLED = [0.8, 0.0, 1.0]
"""Share of labelled pixels: some, none (an all-invalid depth, nobody in the image), all."""
FLOAT_TASKS = [task for task, spec in TASK_SPECS.items() if not spec.is_categorical]


def task_of(key):
    return None if key == 'img' else key[3:]


# ---------------------------------------------------------------- nearest neighbour and scale


@pytest.mark.parametrize('dtype', [np.uint8, np.float32, np.float64, np.int32, np.bool_])
@pytest.mark.parametrize('shape', [(7, 5), (7, 5, 1), (6, 9, 3), (1, 1), (3, 4, 6)])
def test_nearest(dtype, shape):
    source = (np.random.default_rng(0).random(shape) * 100).astype(dtype)
    for size in ((7, 5), (3, 2), (14, 10), (11, 17), (1, 1), (1, 30), (13, 4)):
        result = resize_nearest(source, size)
        assert result.dtype == source.dtype
        np.testing.assert_array_equal(result, slow.nearest(source, size))


def test_nearest_at_sizes_where_opencv_rounds_differently():
    rng = np.random.default_rng(1)
    lengths = [(425, 557), (560, 838), (500, 333), (40000, 123), (70, 40000), *rng.integers(1, 1300, (300, 2)).tolist()]
    for old, new in lengths:
        source = np.arange(old, dtype=np.float32)[None]
        expected = np.array([(2 * i + 1) * old // (2 * new) for i in range(new)])
        np.testing.assert_array_equal(resize_nearest(source, (1, new))[0], expected)
        both = resize_nearest(source.T % 251 + source[:, :3], (new, 2))
        np.testing.assert_array_equal(both, (expected % 251)[:, None] + [(1 * min(old, 3)) // 4, 3 * min(old, 3) // 4])


@pytest.mark.parametrize('labelled', LABELLED)
@pytest.mark.parametrize('factor', [0.5, 0.83, 1.0, 1.62])
def test_scale(factor, labelled):
    sample = make_sample(labelled=labelled)
    size = int(11 * factor), int(8 * factor)
    out = MultiTaskRandomScale((factor, factor))(copy.deepcopy(sample))
    for key in sample['seg_fields']:
        expected = slow.nearest(sample[key], size)
        if get_task_spec(key[3:]).kind == 'depth':
            expected = expected / np.float32(factor)
        np.testing.assert_array_equal(out[key], expected, err_msg=key)
    assert np.abs(out['img'] - slow.linear(sample['img'], size, antialias=False)).max() <= 1
    assert (out['img'].dtype, out['img_shape'], out['scale_factor']) == (np.uint8, size, (factor, factor))


def test_scale_of_a_single_pixel():
    out = MultiTaskRandomScale((0.5, 0.5))(make_sample(1, 1))
    assert {value.shape[:2] for value in arrays(out).values()} == {(1, 1)}


# ---------------------------------------------------------------- fixed size


SIZES = [((12, 16), (6, 8)), ((11, 8), (5, 6)), ((6, 5), (13, 9)), ((7, 7), (7, 7)), ((1, 1), (3, 2)), ((9, 5), (1, 1))]


@pytest.mark.parametrize('labelled', [0.9, 0.0, 1.0])
@pytest.mark.parametrize(('old', 'new'), SIZES)
def test_resize_nearest_targets(old, new, labelled):
    sample = make_sample(*old, labelled=labelled)
    out = MultiTaskResize(new)(copy.deepcopy(sample))
    for key in sample['seg_fields']:
        np.testing.assert_array_equal(out[key], slow.nearest(sample[key], new), err_msg=key)
    assert np.abs(out['img'] - slow.linear(sample['img'], new, antialias=True)).max() <= 1
    assert out['img_shape'] == out['img'].shape[:2] == new
    assert out['scale_factor'] == (new[1] / old[1], new[0] / old[0])


@pytest.mark.parametrize('antialias', [True, False])
@pytest.mark.parametrize('labelled', [0.93, 0.0, 1.0])
@pytest.mark.parametrize(('old', 'new'), SIZES)
def test_resize_bilinear_targets(old, new, labelled, antialias):
    sample = make_sample(*old, labelled=labelled, seed=5)
    out = MultiTaskResize(new, targets='bilinear', antialias=antialias)(copy.deepcopy(sample))
    for key in sample['seg_fields']:
        task = key[3:]
        assert out[key].dtype == sample[key].dtype
        if get_task_spec(task).is_categorical:
            np.testing.assert_array_equal(out[key], slow.nearest(sample[key], new), err_msg=key)
        elif old == new:
            np.testing.assert_array_equal(out[key], sample[key])
        else:
            expected = slow.linear_target(task, sample[key], new, antialias)
            np.testing.assert_allclose(out[key], expected, atol=3e-5, rtol=0, err_msg=key)
    assert np.abs(out['img'] - slow.linear(sample['img'], new, antialias)).max() <= 1


@pytest.mark.parametrize('task', FLOAT_TASKS)
def test_no_value_is_mixed_from_an_unlabelled_pixel(task):
    """One unlabelled pixel takes the label off exactly those new pixels that it has a share in."""
    spec = get_task_spec(task)
    sample = make_sample(16, 16, (task,), labelled=1.0)
    whole = MultiTaskResize(8, 'bilinear')(copy.deepcopy(sample))[f'gt_{task}']
    sample[f'gt_{task}'][7, 6] = spec.fill
    out = MultiTaskResize(8, 'bilinear')(sample)[f'gt_{task}']
    hidden = np.array([[not slow.is_labelled(spec.kind, np.atleast_1d(p).tolist()) for p in row] for row in out])
    # Halving mixes pixels 2i - 1 to 2i + 2: row 7 goes into rows 3 and 4, column 6 into columns 2 and 3.
    assert sorted(map(tuple, np.argwhere(hidden))) == [(3, 2), (3, 3), (4, 2), (4, 3)]
    np.testing.assert_array_equal(out[~hidden], whole[~hidden])


def test_normals_that_cancel_out_have_no_label():
    normals = np.zeros((2, 2, 3), np.float32)
    normals[..., 0] = [[1, -1], [-1, 1]]
    sample = dict(img=np.zeros((2, 2, 3), np.uint8), gt_normals=normals, seg_fields=['gt_normals'])
    assert not MultiTaskResize(1, 'bilinear')(sample)['gt_normals'].any()


# ---------------------------------------------------------------- crop


@pytest.mark.parametrize('cat_task', ['semseg', 'edge', 'human_parts'])
@pytest.mark.parametrize('max_ratio', [0.3, 0.75, 1.0])
@pytest.mark.parametrize('labelled', LABELLED)
def test_crop(cat_task, max_ratio, labelled):
    sample = make_sample(13, 9, ('semseg', 'edge', 'depth', 'human_parts', 'normals'), labelled=labelled)
    sample['gt_semseg'][:, :5][sample['gt_semseg'][:, :5] != 255] = 1
    for seed in range(25):
        np.random.seed(seed)
        top, left = slow.crop_corner((13, 9), (6, 12), sample[f'gt_{cat_task}'], max_ratio, np.random.randint)
        after = np.random.random_sample()
        np.random.seed(seed)
        out = MultiTaskRandomCrop((6, 12), max_ratio, cat_task)(copy.copy(sample))
        assert np.random.random_sample() == after, 'as many draws'
        window = np.s_[top : top + 6, left : left + 12]
        assert_same(arrays(out), {key: value[window] for key, value in arrays(sample).items()})


def test_crop_ratio_needs_a_map_of_classes():
    with pytest.raises(ValueError, match="cat_task must be of kind 'classes' or 'binary', but 'depth' is of kind"):
        MultiTaskRandomCrop(4, 0.75, 'depth')


# ---------------------------------------------------------------- flip


@pytest.mark.parametrize('negate', [True, False])
@pytest.mark.parametrize('labelled', LABELLED)
@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
def test_flip_and_unflip(direction, labelled, negate):
    sample = make_sample(labelled=labelled)
    flip = MultiTaskRandomFlip(1.0, direction, negate_normals=negate)
    once = flip(copy.deepcopy(sample))
    horizontally, vertically = direction != 'vertical', direction != 'horizontal'
    expected = {
        key: slow.flip(task_of(key), value, horizontally, vertically, negate) for key, value in arrays(sample).items()
    }
    assert_same(arrays(once), expected)
    assert_same(arrays(flip(once)), arrays(sample))


def test_flip_keeps_a_last_axis_of_one_and_the_arrays_of_the_caller():
    sample = make_sample(4, 5, ('depth',))
    sample['gt_depth'] = sample['gt_depth'][..., None]
    before = copy.deepcopy(arrays(sample))
    out = MultiTaskRandomFlip(1.0)(dict(sample))
    assert out['gt_depth'].shape == (4, 5, 1)
    assert_same(arrays(sample), before)


# ---------------------------------------------------------------- pad and ignore regions


@pytest.mark.parametrize('labelled', LABELLED)
@pytest.mark.parametrize('size', [(11, 8), (14, 8), (12, 13), (20, 21)])
def test_pad(size, labelled):
    sample = make_sample(labelled=labelled)
    out = MultiTaskPad(size, img_fill=(1, 2, 3))(copy.deepcopy(sample))
    for key, value in arrays(sample).items():
        fill = (1, 2, 3) if key == 'img' else get_task_spec(key[3:]).fill
        np.testing.assert_array_equal(out[key], slow.pad(value, size, fill), err_msg=key)


def parts_maps():
    rng = np.random.default_rng(0)
    nobody = np.where(rng.random((6, 5)) < 0.3, 255, 0).astype(np.uint8)
    somebody = nobody.copy()
    somebody[5, 4] = 6
    first = np.where(nobody == 0, 1, 255).astype(np.uint8)
    yield from (nobody, somebody, first, np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8))
    yield from (np.array([[value]], np.uint8) for value in (0, 1, 254, 255))


@pytest.mark.parametrize('parts', list(parts_maps()))
def test_ignore_empty_parts(parts):
    sample = dict(img=np.zeros((*parts.shape, 3), np.uint8), gt_human_parts=parts, seg_fields=['gt_human_parts'])
    before = parts.copy()
    out = IgnoreEmptyParts()(sample)['gt_human_parts']
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, slow.ignore_empty_parts(before))
    np.testing.assert_array_equal(parts, before)


def test_a_crop_that_loses_the_person_loses_its_labels_and_others_pass():
    parts = np.zeros((4, 9), np.uint8)
    parts[:, 8] = 3
    lost = IgnoreEmptyParts()(dict(img=np.zeros((4, 4, 3)), gt_human_parts=parts[:, :4], seg_fields=['gt_human_parts']))
    assert (lost['gt_human_parts'] == 255).all()
    assert IgnoreEmptyParts()(dict(gt_semseg=parts)) == dict(gt_semseg=parts)
    with pytest.raises(ValueError, match="kind 'classes', but 'sal' is of kind 'binary'"):
        IgnoreEmptyParts('sal')


# ---------------------------------------------------------------- rotation


@pytest.mark.parametrize('border', ['ignore', 'zero'])
@pytest.mark.parametrize('labelled', LABELLED)
@pytest.mark.parametrize(('angle', 'scale'), [(17.3, 0.81), (-33.0, 1.22), (0.0, 1.5), (0.0, 1.0), (90.0, 1.0)])
def test_affine(angle, scale, labelled, border):
    sample = make_sample(11, 9, labelled=labelled)
    transform = MultiTaskRandomAffine((angle, angle), (scale, scale), border=border)
    out = transform(copy.deepcopy(sample))
    for key in sample['seg_fields']:
        fill = get_task_spec(key[3:]).fill if border == 'ignore' else 0
        expected = slow.affine(key[3:], sample[key], angle, scale, fill)
        np.testing.assert_allclose(out[key], expected, atol=1e-6, err_msg=key)
        assert out[key].dtype == sample[key].dtype
    if (angle, scale) == (0, 1):
        assert_same(arrays(out), arrays(sample))


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
@pytest.mark.parametrize(('angle', 'scale'), [(17.3, 0.81), (-33.0, 1.22), (0.0, 1.5)])
def test_affine_image(angle, scale, interpolation):
    # A plane of grey values: any interpolation between its pixels gives the plane back.
    y, x = np.mgrid[:41, :33]
    plane = np.stack([20 + 2 * x + 3 * y, 200 - 3 * x - y, 90 + x], -1).astype(np.uint8)
    transform = MultiTaskRandomAffine((angle, angle), (scale, scale), interpolation=interpolation, img_fill=(7, 8, 9))
    out = transform(dict(img=plane, seg_fields=[]))['img'].astype(float)
    cos, sin = np.cos(np.radians(angle)) / scale, np.sin(np.radians(angle)) / scale
    right, up = x - 16, 20 - y
    column, row = 16 + cos * right + sin * up, 20 - (cos * up - sin * right)
    expected = np.stack([20 + 2 * column + 3 * row, 200 - 3 * column - row, 90 + column], -1)
    inside = (column > 2) & (column < 30) & (row > 2) & (row < 38)
    assert inside.sum() > 300
    assert np.abs(out - expected)[inside].max() < 0.9
    outside = (column < -2) | (column > 34) | (row < -2) | (row > 42)
    assert (out[outside] == (7, 8, 9)).all()


def test_affine_draws():
    np.random.seed(0)
    continuous = MultiTaskRandomAffine()
    drawn = np.array([continuous.draw() for _ in range(3000)])
    assert drawn.min(0) == pytest.approx([-20, 0.75], abs=0.1)
    assert drawn.max(0) == pytest.approx([20, 1.25], abs=0.1)
    assert drawn.mean(0) == pytest.approx([0, 1], abs=0.7)
    discrete = MultiTaskRandomAffine((0, 0), scales=[1.0, 1.2, 1.5])
    chosen = [discrete.draw() for _ in range(200)]
    assert set(chosen) == {(0, 1.0), (0, 1.2), (0, 1.5)}


# ---------------------------------------------------------------- photometric distortion


@pytest.mark.parametrize('seed', range(40))
def test_photometric_equals_mmsegs_to_the_last_bit(seed):
    image = make_sample(23, 31, (), seed)['img']
    results = []
    for transform in (PhotoMetricDistortion(), FastPhotoMetricDistortion()):
        np.random.seed(seed)
        results.append((transform(dict(img=image.copy()))['img'], np.random.random_sample()))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1], 'as many draws'


class Script:
    """Stands in for numpy.random and hands out prepared numbers."""

    def __init__(self, *values):
        self.values = list(values)

    def randint(self, *_):
        return self.values.pop(0)

    uniform = randint


@pytest.mark.parametrize('contrast_first', [0, 1])
def test_photometric_grey_steps(monkeypatch, contrast_first):
    image = make_sample(6, 5, (), 3)['img']
    contrast = [1, 1.4]
    script = [
        1,
        -20.5,
        contrast_first,
        *(contrast if contrast_first else []),
        0,
        0,
        *([] if contrast_first else contrast),
    ]
    fake = Script(*script)
    monkeypatch.setattr(np.random, 'randint', fake.randint)
    monkeypatch.setattr(np.random, 'uniform', fake.uniform)
    monkeypatch.setattr('mmseg.datasets.transforms.transforms.random', fake)
    out = FastPhotoMetricDistortion()(dict(img=image))['img']
    assert not fake.values
    np.testing.assert_array_equal(out, slow.grey_step(slow.grey_step(image, beta=-20.5), alpha=1.4))


def test_photometric_hue_and_saturation(monkeypatch):
    image = make_sample(6, 5, (), 4)['img']
    fake = Script(0, 0, 1, 0.6, 1, 11, 0)
    monkeypatch.setattr(np.random, 'randint', fake.randint)
    monkeypatch.setattr(np.random, 'uniform', fake.uniform)
    monkeypatch.setattr('mmseg.datasets.transforms.transforms.random', fake)
    out = FastPhotoMetricDistortion()(dict(img=image))['img']
    for index in np.ndindex(6, 5):
        blue, green, red = image[index] / 255
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        changed = colorsys.hsv_to_rgb((hue + 22 / 360) % 1, saturation * 0.6, value)
        # Hue in steps of two degrees and saturation in steps of 1/255 cost a few grey values.
        np.testing.assert_allclose(out[index][::-1], 255 * np.array(changed), atol=6)


def test_photometric_takes_bytes_only():
    with pytest.raises(TypeError, match='img must be uint8, but is float32'):
        FastPhotoMetricDistortion()(dict(img=np.zeros((2, 2, 3), np.float32)))


# ---------------------------------------------------------------- pack


@pytest.mark.parametrize('shape', [(5, 7), (1, 1)])
def test_pack(shape):
    sample = make_sample(*shape)
    out = PackMultiTaskInputs()(copy.deepcopy(sample))
    packed = {'img': out['inputs'], **{key: out['data_samples'].get(key).data for key in sample['seg_fields']}}
    for key, source in arrays(sample).items():
        channels = source.reshape(*shape, -1)
        assert tuple(packed[key].shape) == (channels.shape[2], *shape)
        for c, y, x in np.ndindex(*packed[key].shape):
            np.testing.assert_equal(packed[key][c, y, x].item(), channels[y, x, c].item())


def test_checks_remember_each_sample_by_one_bit():
    check, seen = CheckTargets(), []
    for index in (5, 0, 9, 5, 1000, 0, 4, 1000, 63, 64, 9):
        sample = make_sample(3, 3, ('depth',))
        check({**sample, 'sample_idx': index})
        seen.append(index)
        for other in (0, 4, 5, 6, 9, 63, 64, 999, 1000, 5000):
            bad = {**sample, 'gt_depth': -sample['gt_depth'] - 1, 'sample_idx': other}
            if other in seen:
                check(bad)
            else:
                with pytest.raises(ValueError, match='expected finite metres'):
                    check(bad)
    assert len(check._seen) == 126
    for sample in (make_sample(3, 3, ('depth',)) for _ in range(2)):
        del sample['sample_idx']
        sample['gt_depth'] -= 9
        with pytest.raises(ValueError, match='expected finite metres'):
            check(sample)


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: MultiTaskResize(0), 'MultiTaskResize: size must be a positive integer'),
        (lambda: MultiTaskResize(4, 'cubic'), r"targets must be one of \('nearest', 'bilinear'\), but got 'cubic'"),
        (lambda: MultiTaskRandomAffine((5, -5)), r'angle must be \(low, high\) degrees within'),
        (lambda: MultiTaskRandomAffine(scale=(0, 1)), 'scale must be a list of two numbers > 0'),
        (lambda: MultiTaskRandomAffine(scales=[]), 'scales must be a list of factors above 0'),
        (lambda: MultiTaskRandomAffine(scales=[1, -1]), 'scales must be a list of numbers > 0 or None'),
        (lambda: MultiTaskRandomAffine(border='wrap'), "border must be one of .*'wrap'"),
    ],
)
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_all_tasks_are_covered():
    assert set(ALL_TASKS) == set(TASK_SPECS)
    assert {get_task_spec(task).kind for task in ALL_TASKS} == {'classes', 'binary', 'depth', 'normals', 'regression'}
