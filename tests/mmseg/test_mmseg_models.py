"""Models of MMSegmentation train with our methods as they are; only the optimizer wrapper differs."""

import pytest
import torch
from mmengine.registry import MODELS, OPTIM_WRAPPERS, DefaultScope
from mmengine.structures import PixelData

pytestmark = [
    pytest.mark.filterwarnings('ignore:Fail to import ``MultiScaleDeformableAttention``:UserWarning'),  # mmcv
]


def head(in_index, in_channels):
    return dict(
        type='FCNHead',
        in_index=in_index,
        in_channels=in_channels,
        channels=8,
        num_classes=4,
        num_convs=1,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    )


def build_model():
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='EncoderDecoder',
            data_preprocessor=dict(type='SegDataPreProcessor', size=(32, 32)),
            backbone=dict(type='ResNetV1c', depth=18, norm_cfg=dict(type='BN')),
            decode_head=head(3, 512),
            auxiliary_head=head(2, 256),
        )
    )


def make_batch():
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 4, (2, 1, 32, 32), generator=generator)
    images = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8, generator=generator)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
    return dict(inputs=list(images), data_samples=samples)


def train(wrapper_type, **options):
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = build_model()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        wrapper = OPTIM_WRAPPERS.build(dict(type=wrapper_type, optimizer=optimizer, **options))
        batch = make_batch()
        logs = [model.train_step(batch, wrapper) for _ in range(4)]
    return model, [log['loss'].item() for log in logs]


@pytest.mark.parametrize('name', ['SelectiveTaskGroupOptimWrapper', 'ReleasedTaskGroupOptimWrapper'])
def test_a_model_with_two_heads_trains_in_task_groups(name):
    model, losses = train(f'mtl_plugins.{name}', tasks=['decode', 'aux'], seed=0)
    assert losses[-1] < losses[0]
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_the_weighted_sum_is_the_step_of_the_plain_wrapper():
    ours, _ = train('mtl_plugins.MultiTaskOptimWrapper', tasks=['decode', 'aux'])
    plain, _ = train('mmengine.OptimWrapper')
    for (name, value), other in zip(ours.state_dict().items(), plain.state_dict().values()):
        assert torch.equal(value, other), name
