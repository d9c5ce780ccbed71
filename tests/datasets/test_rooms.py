import hashlib
import json
import re

import numpy as np
import pytest

from mtl_plugins.datasets.cache import CacheError
from mtl_plugins.datasets.rendering import CLASSES, HUMAN_PARTS, SPLITS, TASKS, render_scene, sample_scene
from mtl_plugins.datasets.rooms import RoomsDataset
from mtl_plugins.errors import UserError
from mtl_plugins.registry import DATASETS
from mtl_plugins.task_specs import get_task_spec

SIZE = (32, 32)


@pytest.fixture(scope='module')
def many():
    """64 small images with their targets."""
    return [render_scene(sample_scene('train', 0, index), SIZE) for index in range(64)]


def digest(sample):
    return hashlib.sha256(b''.join(sample[key].tobytes() for key in sorted(sample))).hexdigest()


def parameters_digest(scene):
    return hashlib.sha256(json.dumps(scene.parameters(), sort_keys=True).encode()).hexdigest()


GOLDEN = '964c64d1c6de8f0a1c9cf10618505ad39642d9655d8998a0440e2f2a83f54c1c'
GOLDEN_GRID = [
    [169.1, 155.3, 146.1, 192.5],
    [208.4, 187.4, 184.2, 222.8],
    [117.4, 122.5, 168.9, 199.9],
    [178.9, 142.9, 126.8, 140.1],
]  # fmt: skip


def test_golden_parameters():
    """The scenes of this VERSION never change: raise VERSION (and update this) when they have to."""
    scenes = [sample_scene(split, 3, index) for split in SPLITS for index in range(4)]
    joined = ''.join(parameters_digest(scene) for scene in scenes)
    assert hashlib.sha256(joined.encode()).hexdigest() == GOLDEN


def test_golden_pixels():
    """The picture, in 4 x 4 blocks: other processors may round the last bit differently, hence a tolerance."""
    image = render_scene(sample_scene('train', 0, 4), SIZE)['img'].astype(float)
    blocks = image.reshape(4, 8, 4, 8, 3).mean((1, 3, 4))
    np.testing.assert_allclose(blocks, GOLDEN_GRID, atol=1.5)


def test_same_index_gives_the_same_bytes():
    assert digest(render_scene(sample_scene('val', 1, 7), SIZE)) == digest(
        render_scene(sample_scene('val', 1, 7), SIZE)
    )


def test_every_image_of_every_split_and_seed_differs():
    scenes = [sample_scene(split, seed, index) for split in SPLITS for seed in (0, 1) for index in range(20)]
    assert len({parameters_digest(scene) for scene in scenes}) == len(scenes)
    assert len({scene.room for scene in scenes}) == len(scenes)


def test_targets_follow_the_task_table(many):
    for sample in many[:12]:
        assert set(sample) == {'img', *(f'gt_{task}' for task in TASKS)}
        assert sample['img'].shape == (*SIZE, 3)
        assert sample['img'].dtype == np.uint8
        for task in TASKS:
            spec, target = get_task_spec(task), sample[f'gt_{task}']
            channels = () if spec.target_channels == 1 else (spec.target_channels,)
            assert target.shape == (*SIZE, *channels), task
            assert target.dtype == (np.uint8 if spec.is_categorical else np.float32), task
            assert np.isfinite(target).all(), task
            if spec.kind == 'regression':
                assert target.min() >= 0, task
                assert target.max() <= 1, task
        assert set(np.unique(sample['gt_edge'])) <= {0, 1}
        assert set(np.unique(sample['gt_sal'])) <= {0, 1}
        assert sample['gt_depth'].min() > 0.5
        assert sample['gt_depth'].max() < 9


def test_every_class_and_part_occurs_and_some_pixels_are_unlabelled(many):
    labels, counts = np.unique([sample['gt_semseg'] for sample in many], return_counts=True)
    assert set(labels) == {*range(len(CLASSES)), 255}
    assert (counts / counts.sum() > 0.003).all()
    parts = np.unique([sample['gt_human_parts'] for sample in many])
    assert set(parts) == {*range(len(HUMAN_PARTS)), 255}


def test_about_half_of_the_images_show_people_and_the_others_ignore_the_task(many):
    with_people = 0
    for sample in many:
        parts, person = sample['gt_human_parts'], sample['gt_semseg'] == CLASSES.index('person')
        if (parts == 255).any():
            assert (parts == 255).all()
            assert not person.any()
        else:
            with_people += 1
            np.testing.assert_array_equal(parts > 0, person)
    assert 0.35 < with_people / len(many) < 0.65


def test_targets_are_neither_trivial_nor_constant(many):
    for task, low, high in (
        ('edge', 0.05, 0.4), ('sal', 0.01, 0.2), ('edge_texture', 0.03, 0.5), ('keypoints2d', 0.02, 0.5),
        ('edge_occlusion', 0.03, 0.5),
    ):  # fmt: skip
        assert low < np.mean([sample[f'gt_{task}'] for sample in many]) < high, task
    salient = np.array([sample['gt_sal'].any() for sample in many])
    assert salient.mean() > 0.9
    # Texture edges are not just the object edges.
    edge = np.array([sample['gt_edge'] for sample in many], float).ravel()
    texture = np.array([sample['gt_edge_texture'] for sample in many]).ravel()
    assert 0.1 < np.corrcoef(edge, texture)[0, 1] < 0.7


def test_salient_objects_are_the_vivid_ones(many):
    def saturation(rgb):
        rgb = rgb.astype(float)
        return 1 - rgb.min(-1) / np.maximum(rgb.max(-1), 1)

    inside = np.concatenate([saturation(s['img'])[s['gt_sal'] == 1] for s in many])
    outside = np.concatenate([saturation(s['img'])[s['gt_sal'] == 0] for s in many])
    assert inside.mean() > outside.mean() + 0.25


@pytest.mark.parametrize('size', [(16, 16), (24, 40), (56, 32)])
def test_any_size_shows_the_same_room(size):
    scene = sample_scene('train', 0, 5)
    sample, reference = render_scene(scene, size), render_scene(scene, (64, 64))
    assert sample['gt_depth'].shape == size
    centre = sample['gt_depth'][size[0] // 2, size[1] // 2]
    assert centre == pytest.approx(reference['gt_depth'][28:36, 28:36].mean(), rel=0.25)


def build(tmp_path, **kwargs):
    return RoomsDataset(**{**dict(split='val', num_images=3, size=SIZE, cache_dir=tmp_path), **kwargs})


def test_dataset_goes_through_the_pipeline(tmp_path):
    pipeline = [dict(type='mtl_plugins.LoadCachedSample'), dict(type='mtl_plugins.PackMultiTaskInputs')]
    cfg = dict(
        type='mtl_plugins.RoomsDataset', split='val', num_images=3, size=SIZE, cache_dir=str(tmp_path),
        tasks=['normals', 'human_parts'], pipeline=pipeline,
    )  # fmt: skip
    dataset = DATASETS.build(cfg)
    assert len(dataset) == 3
    expected = render_scene(sample_scene('val', 0, 2), SIZE)
    packed = dataset[2]
    np.testing.assert_array_equal(packed['inputs'].numpy(), expected['img'][..., ::-1].transpose(2, 0, 1))
    sample = packed['data_samples']
    np.testing.assert_array_equal(sample.gt_normals.data.numpy(), expected['gt_normals'].transpose(2, 0, 1))
    np.testing.assert_array_equal(sample.gt_human_parts.data.numpy()[0], expected['gt_human_parts'])
    assert not hasattr(sample, 'gt_depth')


def test_metainfo_names_tasks_classes_and_colours(tmp_path):
    meta = build(tmp_path, tasks=('depth', 'semseg')).metainfo
    assert meta['tasks'] == ('depth', 'semseg')
    assert meta['classes'] == {'semseg': CLASSES}
    assert len(meta['palettes']['semseg']) == len(CLASSES) == len(set(map(tuple, meta['palettes']['semseg'])))


def test_worker_processes_render_the_same_bytes(tmp_path):
    here, there = build(tmp_path / 'a', num_images=2), build(tmp_path / 'b', num_images=2, num_workers=2)
    fields = ['img', *(f'gt_{task}' for task in TASKS)]
    for index in range(2):
        assert digest(here.sample_cache.load(index, fields)) == digest(there.sample_cache.load(index, fields))


def test_cache_is_shared_by_what_shows_the_same_and_by_nothing_else(tmp_path):
    base = build(tmp_path).sample_cache.root
    assert build(tmp_path, num_images=4, tasks=['depth']).sample_cache.root == base
    for other in (dict(seed=1), dict(size=(32, 40)), dict(split='test')):
        assert build(tmp_path, **other).sample_cache.root != base


def test_damaged_file_is_named_when_read(tmp_path):
    dataset = build(tmp_path, pipeline=[dict(type='mtl_plugins.LoadCachedSample')])
    dataset.sample_cache.path(1).write_bytes(b'PK damaged')
    with pytest.raises(CacheError, match=r'000001\.npz'):
        dataset[1]


def test_bad_arguments_are_explained(tmp_path):
    with pytest.raises(KeyError, match="did you mean 'semseg'"):
        build(tmp_path, tasks=['semsegg'])
    with pytest.raises(ValueError, match=r"no targets for the task 'denoise'\. It has: semseg, depth"):
        build(tmp_path, tasks=['denoise'])
    with pytest.raises(ValueError, match='only once'):
        build(tmp_path, tasks=['depth', 'depth'])
    with pytest.raises(TypeError, match='tasks must be a list of strings'):
        build(tmp_path, tasks='depth')
    with pytest.raises(ValueError, match=r"RoomsDataset \(split 'val'.*is empty.*num_images=0"):
        build(tmp_path, num_images=0)
    with pytest.raises(ValueError, match=r"split must be one of .*'train'.*'all'"):
        build(tmp_path, split='all')
    for size in ((8, 32), (32.5, 32)):
        with pytest.raises(ValueError, match='size must be a list of two integers >= 16'):
            build(tmp_path, size=size)
    with pytest.raises(ValueError, match='size must be a list of two integers >= 16, but got 32'):
        build(tmp_path, size=32)
    for name in ('seed', 'num_images', 'num_workers'):
        for value in (-1, 1.5, '2', True):
            with pytest.raises(ValueError, match=f'RoomsDataset.{name} must be an integer >= 0.*, but got'):
                build(tmp_path, **{name: value})


@pytest.mark.parametrize(
    'kind', ['RoomsDataset', 'PhotosDataset', 'NYUDv2Dataset', 'PascalContextMTDataset', 'TaskonomyDataset']
)
def test_a_pipeline_that_is_no_list_is_named(kind):
    """By every dataset, before it looks at its files."""
    for wrong in (None, -1, 'nope', True, dict(a=1)):
        with pytest.raises(UserError, match=rf'{kind}\.pipeline must be a list, but got {re.escape(repr(wrong))}'):
            DATASETS.get(f'mtl_plugins.{kind}')(data_root='nowhere', pipeline=wrong)
