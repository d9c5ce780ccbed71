# ruff: noqa: NPY002 - mmcv's transforms draw from numpy's global generator
import copy
import random

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.dataset import BaseDataset
from torch.utils.data import DataLoader

from mtl_plugins.datasets.cache import SampleCache
from mtl_plugins.datasets.samplers import AbsoluteSampler, SamplePosition
from mtl_plugins.datasets.transforms import (
    CheckTargets,
    LoadCachedSample,
    MultiTaskPad,
    MultiTaskRandomCrop,
    MultiTaskRandomFlip,
    MultiTaskRandomScale,
    PackMultiTaskInputs,
    SeededTransforms,
)
from mtl_plugins.registry import TRANSFORMS
from mtl_plugins.task_specs import get_task_spec

TASKS = ('semseg', 'edge', 'depth', 'normals', 'principal_curvature', 'edge_texture')


def make_sample(height=11, width=8, tasks=TASKS, seed=0, index=0):
    """A random sample in which every target has a region that is not labelled."""
    rng = np.random.default_rng(seed)
    hole = np.s_[2 : height // 2, 1 : width // 2]
    sample = dict(img=rng.integers(0, 256, (height, width, 3), np.uint8), img_path=f'image{seed}', sample_idx=index)
    for task in tasks:
        spec = get_task_spec(task)
        shape = (height, width) if spec.target_channels == 1 else (height, width, spec.channels)
        if spec.is_categorical:
            target = rng.integers(0, 2 if spec.kind == 'binary' else 9, shape, np.uint8)
        else:
            target = rng.normal(size=shape).astype(np.float32)
            if spec.kind == 'depth':
                target = np.abs(target) + 0.5
            if spec.kind == 'normals':
                target /= np.linalg.norm(target, axis=-1, keepdims=True)
        target[hole] = spec.fill
        sample[f'gt_{task}'] = target
    sample['seg_fields'] = [f'gt_{task}' for task in tasks]
    return sample


def arrays(sample):
    return {key: sample[key] for key in ('img', *sample['seg_fields'])}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert a[key].dtype == b[key].dtype, key
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


# ---------------------------------------------------------------- scale


@pytest.mark.parametrize('factor', [0.5, 0.73, 1.0, 1.37, 2.0])
def test_scale_equals_the_obvious_one(factor):
    sample = make_sample()
    out = MultiTaskRandomScale((factor, factor))(copy.deepcopy(sample))
    size = int(11 * factor), int(8 * factor)
    assert out['img_shape'] == size == out['img'].shape[:2]
    for key in sample['seg_fields']:
        source = sample[key]
        expected = np.empty(size + source.shape[2:], source.dtype)
        for y in range(size[0]):
            for x in range(size[1]):
                # the source pixel in whose square the centre of the new pixel falls
                expected[y, x] = source[int((y + 0.5) * 11 / size[0]), int((x + 0.5) * 8 / size[1])]
        if key == 'gt_depth':
            expected = expected / np.float32(factor)
        np.testing.assert_array_equal(out[key], expected, err_msg=key)
        assert out[key].dtype == source.dtype


def test_scaled_image_and_labels_stay_aligned():
    # A left and a right half: after any zoom, the label's border lies where the image crosses the middle grey.
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = 255
    label = (image[..., 0] > 0).astype(np.uint8)
    for factor in (0.5, 0.8, 1.25, 1.5, 2.0):
        sample = dict(img=image.copy(), gt_semseg=label.copy(), seg_fields=['gt_semseg'])
        out = MultiTaskRandomScale((factor, factor))(sample)
        np.testing.assert_array_equal(out['gt_semseg'], out['img'][..., 0] > 127)


def test_scale_draws_uniformly_between_its_bounds():
    np.random.seed(0)
    scale = MultiTaskRandomScale((0.5, 2.0))
    drawn = np.array([scale.draw() for _ in range(4000)])
    assert drawn.min() > 0.5
    assert drawn.max() < 2.0
    assert abs(drawn.mean() - 1.25) < 0.03
    assert abs(drawn.std() - 1.5 / 12**0.5) < 0.02


# ---------------------------------------------------------------- crop


@pytest.mark.parametrize('size', [4, (11, 8), (5, 20), (30, 3)])
def test_crop_takes_the_same_window_everywhere(size):
    height, width = (size, size) if isinstance(size, int) else size
    sample = make_sample()
    # every pixel carries its own coordinates, which say where the window was
    sample['img'][..., 0], sample['img'][..., 1] = np.mgrid[:11, :8]
    for seed in range(20):
        np.random.seed(seed)
        out = MultiTaskRandomCrop(size)(copy.deepcopy(sample))
        top, left = out['img'][0, 0, :2]
        window = np.s_[top : top + height, left : left + width]
        assert_same(arrays(out), {key: value[window] for key, value in arrays(sample).items()})
        assert out['img_shape'] == (min(height, 11), min(width, 8))


def test_crop_reaches_every_window_and_needs_no_semseg():
    sample = make_sample(5, 4, tasks=('depth',))
    sample['img'][..., 0], sample['img'][..., 1] = np.mgrid[:5, :4]
    np.random.seed(0)
    crop = MultiTaskRandomCrop((3, 3), cat_max_ratio=0.75)
    corners = {tuple(crop(copy.deepcopy(sample))['img'][0, 0, :2].tolist()) for _ in range(200)}
    assert corners == {(y, x) for y in range(3) for x in range(2)}


def test_crop_avoids_windows_of_one_class():
    sample = make_sample(64, 64, tasks=('semseg',))
    sample['gt_semseg'] = np.zeros((64, 64), np.uint8)
    sample['gt_semseg'][:, 32:] = 1

    def windows(cat_max_ratio, labels):
        np.random.seed(0)
        crop = MultiTaskRandomCrop(16, cat_max_ratio)
        return [crop({**copy.deepcopy(sample), 'gt_semseg': labels})['gt_semseg'] for _ in range(200)]

    def one_sided(labels):
        return max(np.mean(labels == value) for value in (0, 1, 255)) >= 0.75

    halves = sample['gt_semseg']
    assert np.mean([one_sided(w) for w in windows(1.0, halves)]) > 0.8
    assert np.mean([one_sided(w) for w in windows(0.75, halves)]) < 0.2
    # Pixels that are not labelled do not count as a class: here no window has two, so none is preferred.
    unlabelled = np.where(halves == 1, 255, 0).astype(np.uint8)
    assert np.mean([one_sided(w) for w in windows(0.75, unlabelled)]) > 0.7


# ---------------------------------------------------------------- flip


@pytest.mark.parametrize(
    ('direction', 'axes', 'signs'),
    [('horizontal', 1, (-1, 1, 1)), ('vertical', 0, (1, -1, 1)), ('diagonal', (0, 1), (-1, -1, 1))],
)
def test_flip_equals_the_obvious_one_and_undoes_itself(direction, axes, signs):
    sample = make_sample()
    flip = MultiTaskRandomFlip(1.0, direction)
    once = flip(copy.deepcopy(sample))
    expected = {key: np.flip(value, axes) for key, value in arrays(sample).items()}
    expected['gt_normals'] = expected['gt_normals'] * np.array(signs, np.float32)
    assert_same(arrays(once), expected)
    assert (once['flip'], once['flip_direction']) == (True, direction)
    twice = flip(copy.deepcopy(once))
    assert {k: v.tobytes() for k, v in arrays(twice).items()} == {k: v.tobytes() for k, v in arrays(sample).items()}


def test_flip_leaves_the_original_arrays_alone_and_can_do_nothing():
    sample = make_sample()
    before = copy.deepcopy(sample)
    MultiTaskRandomFlip(1)(dict(sample))
    assert_same(arrays(sample), arrays(before))
    assert_same(arrays(MultiTaskRandomFlip(0)(dict(sample))), arrays(before))


def test_flip_probability():
    np.random.seed(0)
    flip = MultiTaskRandomFlip(0.3)
    flips = [flip(make_sample(3, 3, ('depth',)))['flip'] for _ in range(1000)]
    assert abs(np.mean(flips) - 0.3) < 0.05


def test_flipping_a_scene_flips_what_its_normals_point_at():
    # A ball seen from the front: its mirror image is itself, and so must be its mirrored normals.
    y, x = np.mgrid[1:-1:9j, -1:1:9j] * 0.7
    normals = np.stack([x, y, np.sqrt(1 - x * x - y * y)], -1).astype(np.float32)
    for direction in ('horizontal', 'vertical', 'diagonal'):
        sample = dict(img=np.zeros((9, 9, 3), np.uint8), gt_normals=normals.copy(), seg_fields=['gt_normals'])
        out = MultiTaskRandomFlip(1.0, direction)(sample)
        np.testing.assert_allclose(out['gt_normals'], normals, atol=1e-6)


# ---------------------------------------------------------------- pad


@pytest.mark.parametrize(('centred', 'offset'), [(True, (2, 3)), (False, (0, 0))])
def test_pad_equals_the_obvious_one(centred, offset):
    sample = make_sample()
    out = MultiTaskPad((16, 14), centred=centred, img_fill=(1, 2, 3))(copy.deepcopy(sample))
    assert (out['pad_offset'], out['pad_shape'], out['img_shape']) == (offset, (16, 14), (11, 8))
    for key, source in arrays(sample).items():
        fill = (1, 2, 3) if key == 'img' else get_task_spec(key[3:]).fill
        expected = np.full((16, 14, *source.shape[2:]), fill).astype(source.dtype)
        for y in range(11):
            for x in range(8):
                expected[offset[0] + y, offset[1] + x] = source[y, x]
        assert out[key].dtype == source.dtype
        np.testing.assert_array_equal(out[key], expected, err_msg=key)


def test_pad_leaves_what_is_large_enough():
    sample = make_sample()
    out = MultiTaskPad((5, 8))(copy.deepcopy(sample))
    assert_same(arrays(out), arrays(sample))
    assert (out['pad_offset'], out['pad_shape']) == ((0, 0), (11, 8))
    one_axis = MultiTaskPad((5, 9))(copy.deepcopy(sample))
    assert (one_axis['pad_offset'], one_axis['pad_shape']) == ((0, 0), (11, 9))


def test_pad_for_testing_leaves_targets():
    sample = make_sample()
    out = MultiTaskPad(32, pad_targets=False)(copy.deepcopy(sample))
    assert out['img'].shape == (32, 32, 3)
    assert {out[key].shape[:2] for key in sample['seg_fields']} == {(11, 8)}


# ---------------------------------------------------------------- seeded


def noisy(results):
    results['drawn'] = (random.random(), float(np.random.rand()), float(torch.rand(())))
    return results


def drawn_at(position, transform=None, index=0):
    transform = transform or SeededTransforms([noisy])
    return transform(dict(sample_idx=SamplePosition(index, position)))['drawn']


def test_seeded_depends_on_seed_and_position_only():
    transform = SeededTransforms([noisy])
    first = [drawn_at(p, transform) for p in range(50)]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    assert [drawn_at(p, transform, index=3) for p in reversed(range(50))] == first[::-1]
    assert len(set(first)) == 50
    assert len({value for values in zip(*first) for value in values}) == 150
    assert drawn_at(0, SeededTransforms([noisy], seed=1)) not in first


def test_seeded_leaves_the_outer_generators_untouched():
    def outer():
        return random.random(), np.random.rand(), np.random.randn(), float(torch.rand(()))

    def broken(results):
        noisy(results)
        raise OSError('broken')

    def stream(between):
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        np.random.randn()  # leaves a second Gaussian value waiting in numpy's state
        values = []
        for _ in range(3):
            between()
            values.append(outer())
        return values

    def failing():
        with pytest.raises(OSError, match='broken'):
            drawn_at(3, SeededTransforms([broken]))

    assert stream(lambda: drawn_at(7)) == stream(lambda: None) == stream(failing)


class Drawn(BaseDataset):
    def load_data_list(self):
        return [dict(img_path=str(i)) for i in range(6)]


PIPELINE = [
    dict(type='mtl_plugins.SeededTransforms', seed=3, transforms=[
        dict(type='mtl_plugins.MultiTaskRandomScale'),
        dict(type='mtl_plugins.MultiTaskRandomCrop', size=(8, 8)),
        dict(type='mtl_plugins.MultiTaskRandomFlip'),
        dict(type='mmseg.PhotoMetricDistortion'),
    ]),
    dict(type='mtl_plugins.MultiTaskPad', size=(8, 8)),
    dict(type='mtl_plugins.PackMultiTaskInputs'),
]  # fmt: skip


def load(results):
    return {**make_sample(seed=int(results['sample_idx'])), **results}


def test_augmentation_is_the_same_for_any_number_of_workers_and_after_resuming():
    dataset = Drawn(pipeline=[load, *PIPELINE])

    def stream(num_workers, count, skip=0):
        sampler = AbsoluteSampler(dataset, seed=0)
        sampler.skip(skip)
        loader = DataLoader(dataset, sampler=sampler, batch_size=2, num_workers=num_workers, collate_fn=list)
        items = [item for _, batch in zip(range(count), loader) for item in batch]
        return [(i['inputs'], i['data_samples'].gt_normals.data, i['data_samples'].metainfo) for i in items]

    whole = stream(0, 9)
    for other, offset in ((stream(2, 9), 0), (stream(2, 5, skip=8), 8), (stream(0, 5, skip=8), 8)):
        for (a, n, meta), (b, m, meta2) in zip(whole[offset:], other, strict=True):
            assert torch.equal(a, b)
            assert torch.equal(n, m)
            assert meta == meta2
            assert meta['sample_idx'].position == meta2['sample_idx'].position
    # the same picture in another epoch is augmented differently
    first, again = (next(w for w in whole[e * 6 : e * 6 + 6] if w[2]['img_path'] == '2') for e in (0, 1))
    assert first[2]['scale_factor'] != again[2]['scale_factor']


def test_seeded_without_a_position_says_what_to_do():
    with pytest.raises(ValueError, match=r"sample 'a.png' has no position.*mtl_plugins.AbsoluteSampler"):
        SeededTransforms([noisy])(dict(sample_idx=3, img_path='a.png'))
    with pytest.raises(ValueError, match='seed must be an integer >= 0, but got -1'):
        SeededTransforms([], seed=-1)


# ---------------------------------------------------------------- checks


def test_good_targets_pass_unchanged():
    sample = make_sample()
    sample['gt_normals'][0, 0] = np.nan
    sample['gt_depth'][0, 0] = np.nan
    assert_same(arrays(CheckTargets(dict(semseg=9))(copy.deepcopy(sample))), arrays(sample))


def spoil(task, change):
    sample = make_sample(seed=4)
    sample[f'gt_{task}'] = change(sample[f'gt_{task}'])
    return sample


def put(value):
    def change(target):
        target[0, 0] = value
        target[10, 7] = value
        return target

    return change


@pytest.mark.parametrize(
    ('task', 'change', 'message'),
    [
        ('semseg', put(9), r'expected class ids 0\.\.8 or 255 \(not labelled\), but found id 9 in 2 pixels'),
        ('semseg', put(254), 'found id 254 in 2 pixels'),
        ('semseg', lambda t: t.astype(np.int64), 'expected data type uint8, but found int64'),
        ('semseg', lambda t: t[:-1], r'expected shape \(11, 8\), the size of the image, but found shape \(10, 8\)'),
        ('semseg', lambda t: None, 'expected a numpy array, but found NoneType'),
        ('edge', put(2), r'expected values 0, 1 or 255 \(not labelled\), but found value 2 in 2 pixels'),
        ('depth', put(-1.5), r'expected finite metres of 0 or more.*found value -1.5 in 2 pixels'),
        ('depth', put(np.inf), 'found value inf in 2 pixels'),
        ('depth', lambda t: t[..., None], r'expected shape \(11, 8\).*found shape \(11, 8, 1\)'),
        ('depth', lambda t: t.astype(np.float64), 'expected data type float32, but found float64'),
        ('normals', put(255), r'expected unit vectors \(zero vector: not known\), but found length 441.7 in 2 pixels'),
        ('normals', put(1e30), 'found length 1.732e\\+30'),
        ('normals', lambda t: t[..., :2], r'expected shape \(11, 8, 3\)'),
        ('principal_curvature', put(np.inf), r'expected finite values \(NaN: not known\), but found value inf in 4'),
    ],
)
def test_bad_targets_are_named(task, change, message):
    kind = get_task_spec(task).kind
    with pytest.raises(ValueError, match=rf"sample 'image4', task '{task}' \({kind}\): .*{message}"):
        CheckTargets(dict(semseg=9))(spoil(task, change))


def test_number_of_classes_may_come_from_the_dataset():
    sample = spoil('semseg', put(40))
    CheckTargets()(copy.deepcopy(sample))  # nobody knows how many classes there are
    sample['num_classes'] = dict(semseg=40)
    with pytest.raises(ValueError, match=r'class ids 0\.\.39'):
        CheckTargets()(copy.deepcopy(sample))
    CheckTargets(dict(semseg=41))(sample)


def test_a_sample_is_checked_once_and_again_if_it_failed():
    check, bad = CheckTargets(), spoil('depth', put(-1))
    check(make_sample(seed=4))
    check(copy.deepcopy(bad))  # same name, seen before
    with pytest.raises(ValueError, match='-1'):
        CheckTargets(once=False)(bad)
    fresh = CheckTargets()
    for _ in range(2):
        with pytest.raises(ValueError, match='-1'):
            fresh(copy.deepcopy(bad))


def test_unknown_fields_are_refused():
    sample = make_sample(tasks=('depth',))
    sample['gt_detph'] = sample['gt_depth']
    with pytest.raises(KeyError, match="unknown task 'detph': did you mean 'depth'"):
        CheckTargets()({**sample, 'seg_fields': ['gt_detph']})
    with pytest.raises(ValueError, match="seg_fields lists 'depth', but the targets of mtl_plugins are called"):
        CheckTargets()({**sample, 'seg_fields': ['depth']})


# ---------------------------------------------------------------- load and pack


def test_load_reads_only_the_tasks_asked_for(tmp_path):
    cache = SampleCache(tmp_path, 2)
    stored = make_sample()
    half = stored['gt_edge_texture'].astype(np.float16)
    files = dict(img=stored['img'], gt_semseg=stored['gt_semseg'], gt_depth=stored['gt_depth'], gt_edge_texture=half)
    cache.fill(lambda index: files, 'test')
    info = dict(sample_cache=cache, cache_index=1, tasks=('edge_texture', 'semseg'), img_path='x')
    out = LoadCachedSample()(dict(info))
    assert out['seg_fields'] == ['gt_edge_texture', 'gt_semseg']
    assert 'gt_depth' not in out
    assert 'sample_cache' not in out
    np.testing.assert_array_equal(out['img'], stored['img'][..., ::-1])
    np.testing.assert_array_equal(out['gt_edge_texture'], half.astype(np.float32))
    assert (out['gt_edge_texture'].dtype, out['gt_semseg'].dtype) == (np.float32, np.uint8)
    assert out['img_shape'] == out['ori_shape'] == (11, 8)


def test_load_names_what_a_dataset_did_not_hand_over():
    with pytest.raises(KeyError, match=r"sample 'x' comes without sample_cache, tasks; .*RoomsDataset"):
        LoadCachedSample()(dict(img_path='x', cache_index=0))


def test_pack():
    sample = make_sample()
    sample['sample_idx'] = SamplePosition(3, 40)
    sample['gt_semseg'] = sample['gt_semseg'][:, ::-1]  # a view with negative strides, as flips make it
    out = PackMultiTaskInputs()(copy.copy(sample))
    assert out['inputs'].dtype == torch.uint8
    np.testing.assert_array_equal(out['inputs'].permute(1, 2, 0), sample['img'])
    packed = out['data_samples']
    assert sorted(packed.keys()) == sorted(sample['seg_fields'])
    for key in sample['seg_fields']:
        data, spec = packed.get(key).data, get_task_spec(key[3:])
        assert data.dtype == (torch.uint8 if spec.is_categorical else torch.float32)
        assert data.shape == (spec.target_channels, 11, 8)
        assert data.is_contiguous()
        np.testing.assert_array_equal(data.permute(1, 2, 0), sample[key].reshape(11, 8, -1))
        data.zero_()  # writing into the tensor must not reach the array
        assert sample[key].any()
    assert (packed.sample_idx, packed.sample_idx.position, packed.img_path) == (3, 40, 'image0')


@pytest.mark.parametrize('label', [300, -1, 0.5, np.nan])
def test_labels_that_eight_bits_cannot_hold_are_not_packed(label):
    classes = np.array([[3, 255, label]])
    sample = dict(img=np.zeros((1, 3, 3), np.uint8), img_path='a.png', gt_sal=classes, seg_fields=['gt_sal'])
    with pytest.raises(
        ValueError, match=f"'a.png': labels of task sal must be .* 1 pixels have others, such as {label}"
    ):
        PackMultiTaskInputs()(sample)
    sample['gt_sal'] = np.array([[1, 255, 0]])
    assert PackMultiTaskInputs()(sample)['data_samples'].gt_sal.data.dtype == torch.uint8


def test_whole_pipeline_from_the_registry_without_some_tasks():
    pipeline = Compose([TRANSFORMS.build(cfg) for cfg in PIPELINE])
    sample = make_sample(tasks=('normals',))
    sample['sample_idx'] = SamplePosition(0, 9)
    out = pipeline(sample)
    assert out['inputs'].shape == (3, 8, 8)
    length = out['data_samples'].gt_normals.data.norm(dim=0)
    assert (((length - 1).abs() < 1e-5) | (length == 0)).all()
    assert repr(pipeline).count('MultiTask') == 5


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: MultiTaskRandomScale((2, 1)), r'scale must be \(low, high\) with 0 < low <= high, but got \(2, 1\)'),
        (lambda: MultiTaskRandomScale((0, 1)), 'scale must be a list of two numbers > 0'),
        (lambda: MultiTaskRandomCrop((3, 4, 5)), r'size must be a positive integer or \(height, width\), but got'),
        (lambda: MultiTaskRandomCrop(0), 'MultiTaskRandomCrop: size must be a positive integer'),
        (lambda: MultiTaskRandomCrop(4, cat_max_ratio=75), r'cat_max_ratio must be a number in \(0, 1\], but got 75'),
        (lambda: MultiTaskRandomFlip(1.5), r'prob must be a number in \[0, 1\]'),
        (lambda: MultiTaskRandomFlip([0.7, 0.7], ['horizontal', 'vertical']), 'prob must lie in 0..1'),
        (lambda: MultiTaskRandomFlip(direction='left'), "direction must be one of .* but got 'left'"),
        (lambda: MultiTaskPad((4.5, 3)), 'MultiTaskPad.size must be an integer or a list of integers'),
    ],
)
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_check_takes_the_channels_and_the_quantised_normals_of_the_dataset():
    sample = make_sample(tasks=('edge_texture', 'normals'))
    sample['gt_edge_texture'] = np.repeat(sample['gt_edge_texture'][..., None], 3, axis=-1)
    sample['gt_normals'] = sample['gt_normals'] * 1.05
    with pytest.raises(ValueError, match=r"task 'edge_texture' .*expected shape \(11, 8\)"):
        CheckTargets()(dict(sample))
    sample['channels'] = dict(edge_texture=3)
    with pytest.raises(ValueError, match='expected unit vectors'):
        CheckTargets()(dict(sample))
    sample['as_stored'] = ('normals',)
    CheckTargets()(dict(sample))
    sample['gt_edge_texture'] = sample['gt_edge_texture'][..., :2]
    with pytest.raises(ValueError, match=r'expected shape \(11, 8, 3\), the size of the image, but found .*8, 2'):
        CheckTargets()(dict(sample))
