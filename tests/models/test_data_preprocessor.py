import copy

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample
from torch.utils.data import DataLoader

from mtl_plugins.datasets import collate_targets
from mtl_plugins.models.data_preprocessor import IMAGENET_MEAN, IMAGENET_STD, MultiTaskDataPreProcessor
from mtl_plugins.models.segmentors.targets import stack_targets
from mtl_plugins.registry import MODELS
from mtl_plugins.task_specs import get_task_spec

CHANNELS = dict(semseg=1, depth=1, normals=3, principal_curvature=2)


def packed(height, width, tasks=tuple(CHANNELS), seed=0, **meta):
    rng = np.random.default_rng(seed)
    sample = SegDataSample(metainfo=dict(img_path=f'image{seed}', **meta))
    for task in tasks:
        data = rng.integers(0, 9, (CHANNELS[task], height, width))
        dtype = torch.uint8 if task == 'semseg' else torch.float32
        sample.set_data({f'gt_{task}': PixelData(data=torch.tensor(data, dtype=dtype))})
    inputs = torch.tensor(rng.integers(0, 256, (3, height, width)), dtype=torch.uint8)
    return dict(inputs=inputs, data_samples=sample)


def obvious_image(image, mean, std, shape, swap):
    out = np.zeros((3, *shape))
    _, height, width = image.shape
    for c in range(3):
        source = image[2 - c] if swap else image[c]
        out[c, :height, :width] = (np.asarray(source, np.float64) - mean[c]) / std[c]
    return out


@pytest.mark.parametrize('swap', [True, False])
@pytest.mark.parametrize(
    ('kwargs', 'shape'), [({}, (9, 11)), (dict(size_divisor=4), (12, 12)), (dict(size=(16, 20)), (16, 20))]
)
def test_training_batch_equals_the_obvious_one(swap, kwargs, shape):
    items = [packed(9, 7, seed=1), packed(5, 11, ('depth', 'semseg'), seed=2), packed(3, 3, (), seed=3)]
    before = [{k: item['data_samples'].get(k).data.clone() for k in item['data_samples'].keys()} for item in items]  # noqa: SIM118
    out = MultiTaskDataPreProcessor(bgr_to_rgb=swap, **kwargs)(pseudo_collate(items), training=True)
    assert out['inputs'].dtype == torch.float32
    assert out['inputs'].shape == (3, 3, *shape)
    for item, image, sample, targets in zip(items, out['inputs'], out['data_samples'], before):
        expected = obvious_image(item['inputs'].numpy(), IMAGENET_MEAN, IMAGENET_STD, shape, swap)
        np.testing.assert_allclose(image.numpy(), expected, rtol=1e-5, atol=1e-6)
        assert sample.img_shape == tuple(item['inputs'].shape[1:])
        assert (sample.pad_shape, sample.pad_offset) == (shape, (0, 0))
        assert sorted(sample.keys()) == sorted(targets)
        for key, original in targets.items():
            data = sample.get(key).data
            expected = torch.full((original.shape[0], *shape), get_task_spec(key[3:]).fill).to(data.dtype)
            expected[:, : original.shape[1], : original.shape[2]] = original
            assert data.dtype == original.dtype
            torch.testing.assert_close(data, expected, rtol=0, atol=0, equal_nan=True)
            assert torch.equal(item['data_samples'].get(key).data, original)  # the input is untouched


class AsTheyAre(list):
    """A dataset for a data loader."""


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('kwargs', [{}, dict(size=(16, 20))])
@pytest.mark.parametrize(
    'items',
    [
        [packed(9, 7, seed=seed) for seed in range(3)],
        [packed(9, 7, seed=0), packed(9, 7, ('depth',), seed=1)],
        [packed(9, 7, seed=0), packed(8, 7, seed=1)],
    ],
    ids=['alike', 'one task in all', 'two sizes'],
)
def test_collated_in_the_worker_or_not_the_batch_is_the_same(items, kwargs, workers):
    batches = []
    for collate in (pseudo_collate, collate_targets):
        loader = DataLoader(AsTheyAre(items), len(items), num_workers=workers, collate_fn=collate)
        batches.append(MultiTaskDataPreProcessor(**kwargs)(next(iter(loader)), training=True))
    plain, collated = batches
    assert torch.equal(plain['inputs'], collated['inputs'])
    for one, other in zip(plain['data_samples'], collated['data_samples']):
        assert one.metainfo == other.metainfo
        assert sorted(one.keys()) == sorted(other.keys())
        for key in one.keys():  # noqa: SIM118
            torch.testing.assert_close(one.get(key).data, other.get(key).data, rtol=0, atol=0, equal_nan=True)
    for task in CHANNELS:
        spec, size = get_task_spec(task), tuple(plain['inputs'].shape[-2:])
        found = [stack_targets(spec, b['data_samples'], size, torch.device('cpu'), CHANNELS[task]) for b in batches]
        torch.testing.assert_close(*found, rtol=0, atol=0, equal_nan=True)
        samples = collated['data_samples']
        if all(f'gt_{task}' in sample for sample in samples) and len({i['inputs'].shape for i in items}) == 1:
            again = stack_targets(spec, samples, size, torch.device('cpu'), CHANNELS[task])
            assert again.data_ptr() == found[1].data_ptr() == samples[0].get(f'gt_{task}').data.data_ptr()


def test_models_of_mmsegmentation_take_a_collated_batch():
    items = [packed(9, 7, ('depth',), seed=seed) for seed in range(2)]
    for item in items:
        item['data_samples'].gt_sem_seg = PixelData(data=torch.ones(1, 9, 7, dtype=torch.uint8))
    out = [
        SegDataPreProcessor(size=(12, 12), pad_val=0, seg_pad_val=255)(collate(copy.deepcopy(items)), training=True)
        for collate in (pseudo_collate, collate_targets)
    ]
    assert torch.equal(out[0]['inputs'], out[1]['inputs'])
    for one, other in zip(*(batch['data_samples'] for batch in out)):
        assert torch.equal(one.gt_sem_seg.data, other.gt_sem_seg.data)
        assert torch.equal(one.gt_depth.data, other.gt_depth.data)


def test_fill_values_mean_not_labelled():
    items = [packed(2, 2), packed(4, 4)]
    sample = MultiTaskDataPreProcessor()(pseudo_collate(items), training=True)['data_samples'][0]
    corner = {key: sample.get(f'gt_{key}').data[:, 3, 3] for key in CHANNELS}
    assert corner['semseg'].tolist() == [255]
    assert corner['depth'].tolist() == [0]
    assert corner['normals'].tolist() == [0, 0, 0]
    assert corner['principal_curvature'].isnan().all()


def test_outside_of_training_targets_keep_their_size():
    items = [packed(9, 7), packed(5, 8)]
    out = MultiTaskDataPreProcessor(size_divisor=16)(pseudo_collate(items))
    assert out['inputs'].shape == (2, 3, 16, 16)
    for item, sample in zip(items, out['data_samples']):
        assert sample.gt_depth.shape == tuple(item['inputs'].shape[1:]) == sample.img_shape
        assert sample.pad_shape == (16, 16)


def test_content_stated_by_an_earlier_pad_stays():
    item = packed(16, 16, img_shape=(9, 7), pad_offset=(3, 4), pad_shape=(16, 16))
    for training, shape in ((True, (32, 32)), (False, (16, 16))):  # the shape of the targets afterwards
        batch = MultiTaskDataPreProcessor(size=(32, 32))(pseudo_collate([item]), training=training)
        assert batch['inputs'].shape[2:] == (32, 32)
        (sample,) = batch['data_samples']
        assert (sample.img_shape, sample.pad_offset, sample.pad_shape) == ((9, 7), (3, 4), shape)
        assert sample.gt_depth.shape == shape


def test_stacked_inputs_and_no_samples():
    stacked = torch.full((2, 3, 4, 4), 128, dtype=torch.uint8)
    out = MultiTaskDataPreProcessor(mean=(0, 128, 28), std=(1, 1, 100), bgr_to_rgb=False)(dict(inputs=stacked))
    assert out['data_samples'] is None
    assert out['inputs'][1, :, 2, 2].tolist() == [128, 0, 1]


def test_follows_its_module_to_another_type_of_device_but_not_into_checkpoints():
    module = MODELS.build(dict(type='mtl_plugins.MultiTaskDataPreProcessor'))
    assert module.state_dict() == {}
    module.to('meta')
    assert module(pseudo_collate([packed(4, 4)]), training=True)['inputs'].device.type == 'meta'


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(mean=(1, 2)), r'mean and std need three values each.*mean=\(1, 2\)'),
        (dict(std=(1, 0, 1)), 'std above 0'),
        (dict(size=(4, 4), size_divisor=2), 'give size or size_divisor, not both'),
        (dict(size_divisor=0), 'size_divisor must be an integer >= 1 or None, but got 0'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MultiTaskDataPreProcessor(**kwargs)


def test_bad_batches():
    module = MultiTaskDataPreProcessor(size=(8, 8))
    with pytest.raises(ValueError, match=r'an image of 9 x 4 does not fit into size=\(8, 8\); crop or resize'):
        module(pseudo_collate([packed(9, 4)]))
    with pytest.raises(ValueError, match='training needs data_samples'):
        module(dict(inputs=[torch.zeros(3, 4, 4)]), training=True)
    item = packed(4, 4, seed=6)
    item['inputs'] = item['inputs'][:, :, :3]
    with pytest.raises(ValueError, match=r"sample 'image6': gt_\w+ is \(4, 4\), but its image is \(4, 3\)"):
        module(pseudo_collate([item]), training=True)
