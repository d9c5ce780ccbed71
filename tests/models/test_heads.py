import pytest
import torch
import torch.nn.functional as F

from mtl_plugins.models import ConcatDecoder, LinearHead, PyramidDecoder, TaskHead, valid_mask
from mtl_plugins.models.heads import decode_logits
from mtl_plugins.registry import MODELS
from mtl_plugins.task_specs import TASK_SPECS, get_task_spec

# mmseg imports all of mmcv, which says that it was installed without compiled operators.
pytestmark = pytest.mark.filterwarnings('ignore:Fail to import ``MultiScaleDeformableAttention``')

SIZE = (24, 16)


def features(channels=8, batch=2, seed=0):
    return torch.randn(batch, channels, 6, 4, generator=torch.Generator().manual_seed(seed))


def labels_for(head, batch=2):
    spec = head.spec
    if spec.is_categorical:
        high = head.out_channels if spec.kind == 'classes' else 2
        return torch.randint(0, high, (batch, 1, *SIZE), dtype=torch.uint8)
    return torch.rand(batch, spec.channels, *SIZE) + 0.1


def head_cfg(task, **kwargs):
    if TASK_SPECS[task].kind == 'classes':
        kwargs.setdefault('num_classes', 5)
    return dict(type='mtl_plugins.TaskHead', task=task, in_channels=8) | kwargs


@pytest.mark.parametrize('task', TASK_SPECS)
def test_every_task_predicts_and_learns_at_input_size(task):
    head = MODELS.build(head_cfg(task))
    logits = head(features(), SIZE)
    assert logits.shape == (2, head.spec.channels or 5, *SIZE)
    expected = F.interpolate(head.predictor.conv(features()), SIZE, mode='bilinear', align_corners=False)
    torch.testing.assert_close(logits, expected, rtol=0, atol=0)
    target = labels_for(head)
    loss, num_valid = head.loss(logits, target)
    assert num_valid.item() == 2 * 24 * 16
    assert num_valid.is_floating_point()
    assert not num_valid.requires_grad
    torch.testing.assert_close(loss, head.criterion(logits, target, valid_mask(head.spec, target)))
    loss.backward()
    assert head.predictor.conv.weight.grad.abs().sum() > 0


def test_regression_heads_take_the_channels_of_the_data_set():
    head = MODELS.build(head_cfg('reshading', channels=3))
    assert head.out_channels == head.target_channels == 3
    logits = head(features(), SIZE)
    target = torch.rand(2, 3, *SIZE)
    torch.testing.assert_close(head.loss(logits, target).loss, (logits - target).abs().mean())
    assert MODELS.build(head_cfg('segment_unsup2d', channels=1)).target_channels == 1
    assert MODELS.build(head_cfg('sal', channels=2)).target_channels == 1
    assert MODELS.build(head_cfg('semseg')).target_channels == 1


def test_loss_weight_scales_the_loss_alone():
    heads = [MODELS.build(head_cfg('depth', loss_weight=w)) for w in (1.0, 2.5)]
    heads[1].load_state_dict(heads[0].state_dict())
    target = labels_for(heads[0])
    (one, n_one), (more, n_more) = (head.loss(head(features(), SIZE), target) for head in heads)
    torch.testing.assert_close(more, 2.5 * one)
    assert n_one == n_more


def test_a_config_may_replace_the_loss():
    head = MODELS.build(head_cfg('depth', loss=dict(type='mtl_plugins.MaskedMSELoss')))
    target, logits = labels_for(head), head(features(), SIZE)
    torch.testing.assert_close(head.loss(logits, target).loss, (logits - target).square().mean())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_output_is_full_precision_under_autocast(dtype):
    head = MODELS.build(head_cfg('semseg'))
    with torch.autocast('cpu', dtype=dtype):
        logits = head(features(), SIZE)
        loss, _ = head.loss(logits, labels_for(head))
    assert logits.dtype == loss.dtype == torch.float32
    loss.backward()
    assert torch.isfinite(head.predictor.conv.weight.grad).all()


def test_decoding_by_kind():
    for task in TASK_SPECS:
        spec = get_task_spec(task)
        logits = 3 * torch.randn(2, spec.channels or 5, 6, 4)
        pred = decode_logits(spec, logits)
        assert pred.shape == (2, spec.target_channels, 6, 4)
        if spec.kind == 'classes':
            assert pred.dtype == torch.int64
            assert torch.equal(logits.gather(1, pred), logits.amax(1, keepdim=True))
        elif spec.kind == 'binary':
            torch.testing.assert_close(pred, logits.sigmoid())
        elif spec.kind == 'depth':
            torch.testing.assert_close(pred, torch.where(logits > 0, logits, 0.0))
        elif spec.kind == 'normals':
            torch.testing.assert_close(pred * logits.norm(dim=1, keepdim=True), logits)
        else:
            assert torch.equal(pred, logits)


def test_decoding_details():
    two = torch.randn(2, 2, 3, 3)
    torch.testing.assert_close(decode_logits(get_task_spec('sal'), two), (two[:, 1:] - two[:, :1]).sigmoid())
    flat = decode_logits(get_task_spec('normals'), torch.zeros(1, 3, 2, 2))
    torch.testing.assert_close(flat, torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand(1, 3, 2, 2))
    half = decode_logits(get_task_spec('edge'), torch.randn(1, 1, 2, 2).half())
    assert half.dtype == torch.float32


def test_labels_out_of_range_are_named():
    head = MODELS.build(head_cfg('semseg'))
    target = labels_for(head)
    target[0, 0, 3, 3], target[1, 0, 0, 0] = 5, 9
    with pytest.raises(ValueError, match=r"labels of task 'semseg' must be 0..4 or 255 .* but found \[5, 9\]"):
        head.loss(head(features(), SIZE), target)
    head = MODELS.build(head_cfg('edge'))
    with pytest.raises(ValueError, match=r"labels of task 'edge' must be 0..1 or 255 .* but found \[2\]"):
        head.loss(head(features(), SIZE), torch.full((2, 1, *SIZE), 2, dtype=torch.uint8))


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(task='semseg', num_classes=None), r"task 'semseg': give num_classes, an int from 1 to 255"),
        (dict(task='semseg', num_classes=256), r'got num_classes=256'),
        (dict(task='depth', num_classes=3), r"a task of kind 'depth' takes no num_classes"),
        (dict(task='normals', channels=1), r"task 'normals': .*channels can only be 3, .* channels=1"),
        (dict(task='sal', channels=3), r'channels can only be 1 or 2'),
        (dict(task='reshading', channels=0), r"task 'reshading': .*channels can only be an int of 1 or more, .*=0"),
        (dict(task='reshading', num_classes=3), r"a task of kind 'regression' takes no num_classes"),
        (
            dict(task='depth', features='first'),
            r"features must be one of \('decoder', 'last', 'maps'\), .* 'first'",
        ),
        (dict(task='depth', loss_weight=-1), r"task 'depth': loss_weight must be a number >= 0, but got -1"),
        (dict(task='depth', features='maps', in_channels=[8, 8]), r"features='maps' needs a predictor"),
        (
            dict(task='depth', predictor=dict(type='mmseg.FCNHead', channels=8, num_classes=19)),
            r"task 'depth': predictor.num_classes must be 1, the channels of the task, but got 19; leave it out",
        ),
    ],
)
def test_wrong_settings_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(head_cfg(**kwargs))


def test_unknown_tasks_have_near_matches():
    with pytest.raises(KeyError, match=r"unknown task 'semsegg': did you mean 'semseg'"):
        TaskHead('semsegg', 8)


@pytest.mark.parametrize('task', ['semseg', 'depth', 'normals', 'principal_curvature'])
def test_mmseg_decode_heads_are_composed(task):
    """Only the forward of the mmseg head is used; its own loss is gone, and no channel count has to be repeated."""
    predictor = dict(type='mmseg.FCNHead', channels=6, num_convs=1, concat_input=False, dropout_ratio=0)
    head = MODELS.build(head_cfg(task, predictor=predictor))
    assert not hasattr(head.predictor, 'loss_decode')
    logits = head(features(), SIZE)
    assert logits.shape == (2, head.out_channels, *SIZE)
    head.loss(logits, labels_for(head)).loss.backward()
    assert all(p.grad is not None for p in head.parameters())
    head.init_weights()  # mmseg's own scheme: a normal of 0.01 for the last layer
    assert 0 < head.predictor.conv_seg.weight.abs().max() < 0.06


def test_mmseg_decode_heads_on_several_maps():
    maps = [features(4, seed=i) for i in range(3)]
    several = dict(
        type='mmseg.FCNHead', in_index=(0, 2), input_transform='resize_concat', channels=8, num_convs=0,
        concat_input=False, dropout_ratio=0,
    )  # fmt: skip
    head = MODELS.build(head_cfg('semseg', in_channels=[4, 4, 4], features='maps', predictor=several)).eval()
    assert sum(p.numel() for p in head.parameters()) == 8 * 5 + 5
    logits = head(maps, (6, 4))
    torch.testing.assert_close(logits, head.predictor.conv_seg(torch.cat([maps[0], maps[2]], 1)))
    for kind in ('SegformerHead', 'UPerHead'):  # these set input_transform themselves
        heads = dict(type=f'mmseg.{kind}', in_index=(0, 1), channels=8)
        head = MODELS.build(head_cfg('depth', in_channels=[4, 4, 4], features='maps', predictor=heads))
        assert head(maps, SIZE).shape == (2, 1, *SIZE)
    one = dict(type='mmseg.FCNHead', in_index=1, channels=8, num_convs=1)
    head = MODELS.build(head_cfg('semseg', in_channels=[4, 4, 4], features='maps', predictor=one))
    assert head(maps, SIZE).shape == (2, 5, *SIZE)


def test_other_predictors_get_their_channels():
    head = MODELS.build(head_cfg('normals', predictor=dict(type='mtl_plugins.LinearHead')))
    assert isinstance(head.predictor, LinearHead)
    assert head.predictor.conv.weight.shape == (3, 8, 1, 1)


def test_a_predictor_with_wrong_channels_is_named():
    head = MODELS.build(head_cfg('normals'))
    head.predictor = LinearHead(8, 4)
    with pytest.raises(ValueError, match=r"task 'normals': the predictor LinearHead returned 4 channels, .* has 3"):
        head(features(), SIZE)


def test_linear_head_counts_and_init():
    head = LinearHead(768, 45)
    assert sum(p.numel() for p in head.parameters()) == 34_605
    torch.manual_seed(3)
    head.init_weights()
    torch.manual_seed(3)
    again = LinearHead(768, 45)
    assert torch.equal(head.conv.weight, again.conv.weight)  # torch's default, by the seed at init_weights
    head.init_weights()
    assert torch.equal(head.conv.weight, again.conv.weight)


def test_concat_decoder():
    maps = [torch.randn(2, c, *hw) for c, hw in ((3, (8, 4)), (5, (4, 2)), (7, (8, 4)))]
    decoder = ConcatDecoder([3, 5, 7])
    out = decoder(maps)
    assert out.shape == (2, 15, 8, 4) == (2, decoder.out_channels, 8, 4)
    assert torch.equal(out[:, :3], maps[0])
    assert torch.equal(out[:, 8:], maps[2])
    torch.testing.assert_close(out[:, 3:8], F.interpolate(maps[1], (8, 4), mode='bilinear', align_corners=False))
    assert torch.equal(ConcatDecoder([3, 5, 7], in_index=[-1])(maps), maps[2])
    with pytest.raises(ValueError, match=r'in_index must name some of the 3 maps of the backbone, but got \(3,\)'):
        ConcatDecoder([3, 5, 7], in_index=[3])


def test_pyramid_decoder():
    """It has the size of the finest map, and every map that is used tells."""
    maps = [torch.randn(2, c, s, s, requires_grad=True) for c, s in ((4, 24), (6, 12), (8, 6))]
    for in_index, used in ((None, 3), ((0, 2), 2), ((1,), 1)):
        decoder = PyramidDecoder([4, 6, 8], channels=16, in_index=in_index)
        decoder.init_weights()
        out = decoder(maps)
        assert out.shape[:2] == (2, decoder.out_channels)
        assert out.shape[2:] == maps[(in_index or (0,))[0]].shape[2:]
        assert sum(g is not None for g in torch.autograd.grad(out.square().sum(), maps, allow_unused=True)) == used
    for wrong, told in (
        (dict(in_index=(3,)), 'in_index must name some of the 3 maps'),
        (dict(channels=12), 'multiple of 8'),
    ):
        with pytest.raises(ValueError, match=told):
            PyramidDecoder([4, 6, 8], **wrong)


def test_linear_head_with_scale_predicts_several_pixels_per_position():
    head = LinearHead(in_channels=5, out_channels=2, scale=3)
    features = torch.randn(1, 5, 4, 6)
    out = head(features)
    assert out.shape == (1, 2, 12, 18)
    # Position (1, 2) of the features alone decides the pixels 3..5 x 6..8.
    features[:, :, 1, 2] += 1
    changed = (head(features) != out).any(1)[0].nonzero()
    assert changed.min(0).values.tolist() == [3, 6]
    assert changed.max(0).values.tolist() == [5, 8]


def test_linear_head_can_begin_without_a_grid():
    head = LinearHead(8, 3, scale=2, smooth_start=True)
    head.init_weights()
    out = head(torch.randn(2, 8, 4, 5))
    torch.testing.assert_close(out, F.interpolate(out[..., ::2, ::2], scale_factor=2, mode='nearest'))
    assert out[0, 0].std() > 0.01
    assert not torch.equal(out[:, 0], out[:, 1])


def test_linear_head_refuses_a_bad_scale():
    with pytest.raises(ValueError, match='scale must be an integer >= 1, but got 0'):
        LinearHead(3, 1, scale=0)
