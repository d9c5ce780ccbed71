"""Sizes that a backbone cannot take: padded by default, or refused when the model is built."""

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mtl_plugins.errors import UserError
from mtl_plugins.models import MultiTaskSegmentor

VIT = dict(
    type='mtl_plugins.TimmViT', img_size=48, embed_dim=16, depth=1, num_heads=1, patch_size=16, drop_path_rate=0.0
)
CNN = dict(type='mtl_plugins.TimmBackbone', model_name='resnet10t', out_indices=(1, 2))
FIXED = dict(
    type='mtl_plugins.TimmBackbone',
    model_name='swin_tiny_patch4_window7_224',
    img_size=56,
    embed_dim=8,
    depths=(1, 1, 1, 1),
    num_heads=(1,) * 4,
)


def model(backbone, preprocessor=None, **settings):
    preprocessor = dict(type='mtl_plugins.MultiTaskDataPreProcessor', **(preprocessor or {}))
    return MultiTaskSegmentor(backbone, dict(depth=dict()), data_preprocessor=preprocessor, **settings)


def batch(size):
    sample = SegDataSample(gt_depth=PixelData(data=torch.ones(1, *size)))
    sample.set_metainfo(dict(img_shape=size, ori_shape=size))
    return dict(inputs=[torch.zeros(3, *size, dtype=torch.uint8)] * 2, data_samples=[sample, sample.clone()])


@pytest.mark.parametrize('backbone', [VIT, CNN, FIXED, dict(VIT, dynamic_img_size=False)])
@pytest.mark.parametrize('preprocessor', [{}, dict(size_divisor=3)])
def test_any_size_trains_and_is_predicted_at_its_size(backbone, preprocessor):
    segmentor = model(backbone, preprocessor)
    for size in ((41, 30), (48, 48)):
        data = segmentor.data_preprocessor(batch(size), training=True)
        losses = segmentor.loss(**data)
        assert losses['depth.num_valid'] == 2 * size[0] * size[1]
        segmentor.eval()
        for sample in segmentor.predict(**segmentor.data_preprocessor(batch(size))):
            assert sample.pred_depth.data.shape == (1, *size)


def test_sizes_that_fit_are_left_as_they_are():
    for preprocessor in ({}, dict(size_divisor=8), dict(size_divisor=16), dict(size=(48, 32))):
        shape = model(VIT, preprocessor).data_preprocessor(batch((48, 32)))['inputs'].shape
        assert shape[2:] == (48, 32)


def test_settings_that_cannot_be_are_refused():
    for preprocessor, test_cfg, told in (
        (dict(size=(40, 48)), {}, r'model\.data_preprocessor\.size=\(40, 48\): TimmViT: .*multiples of the patch size'),
        ({}, dict(mode='slide', crop_size=(32, 40)), r'model\.test_cfg\.crop_size=\(32, 40\): TimmViT: .*multiples'),
    ):
        with pytest.raises(UserError, match=told):
            model(VIT, preprocessor, test_cfg=test_cfg)
    with pytest.raises(UserError, match=r'model\.data_preprocessor\.size=\(48, 48\): .*built for images of \(56, 56\)'):
        model(FIXED, dict(size=(48, 48)))
    model(CNN, dict(size=(50, 41)))  # its maps cover a little more than the image, but it runs
