import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData

from mtl_plugins.task_specs import TASK_SPECS

from .segmentor_cases import HEADS, SIZE, batch, build, sample


def test_predictions_of_every_kind():
    heads = {task: dict(num_classes=5) if spec.kind == 'classes' else {} for task, spec in TASK_SPECS.items()}
    model, (inputs, samples) = build(heads).eval(), batch(sample([]), sample([]))
    out = model(inputs, samples, mode='predict')
    assert all(a is b for a, b in zip(out, samples))
    for one in out:
        for task, spec in TASK_SPECS.items():
            pred = one.get(f'pred_{task}').data
            assert pred.shape == (spec.target_channels, *SIZE)
            if spec.kind == 'classes':
                assert pred.dtype == torch.int64
                assert 0 <= pred.min() <= pred.max() < 5
            elif spec.kind == 'binary':
                assert 0 <= pred.min() <= pred.max() <= 1
            elif spec.kind == 'depth':
                assert pred.min() >= 0
            elif spec.kind == 'normals':
                torch.testing.assert_close(pred.norm(dim=0), torch.ones(SIZE))
    assert len(model(inputs, mode='predict')) == 2


def test_prediction_equals_the_decoded_raw_output():
    model, (inputs, samples) = build().eval(), batch(sample(seed=1), sample(seed=2))
    raw = model(inputs, mode='tensor')
    assert {task: tuple(r.shape) for task, r in raw.items()}['normals'] == (2, 3, *SIZE)
    for i, one in enumerate(model(inputs, samples, mode='predict')):
        for task, head in model.heads.items():
            torch.testing.assert_close(one.get(f'pred_{task}').data, head.decode(raw[task])[i])


@pytest.mark.parametrize('offset', [(0, 0), (5, 3)])
@pytest.mark.parametrize('targets', ['content', 'padded', 'none'])
def test_padding_is_cut_off(offset, targets):
    model = build().eval()
    content = (20, 40)
    window = (..., slice(offset[0], offset[0] + 20), slice(offset[1], offset[1] + 40))
    meta = dict(img_shape=content, ori_shape=content, pad_shape=SIZE, pad_offset=offset)
    one = sample([] if targets == 'none' else tuple(HEADS), size=SIZE if targets == 'padded' else content, **meta)
    before = {task: one.get(f'gt_{task}').data for task in HEADS} if targets != 'none' else {}
    inputs, samples = batch(one)
    raw = model(inputs, mode='tensor')
    (out,) = model(inputs, samples, mode='predict')
    for task, head in model.heads.items():
        torch.testing.assert_close(out.get(f'pred_{task}').data, head.decode(raw[task])[0][window])
        if targets != 'none':
            gt = out.get(f'gt_{task}').data
            assert gt.shape[-2:] == content
            expected = before[task] if targets == 'content' else before[task][window]
            torch.testing.assert_close(gt, expected, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize('with_targets', [True, False])
def test_resized_images_are_predicted_on_the_original_grid(with_targets):
    model = build().eval()
    one = sample(tuple(HEADS) if with_targets else (), size=(64, 96), img_shape=SIZE, ori_shape=(64, 96))
    inputs, samples = batch(one)
    (out,) = model(inputs, samples, mode='predict')
    raw = model(inputs, mode='tensor')['depth']
    expected = F.interpolate(raw, (64, 96), mode='bilinear').clamp_min(0)[0]
    torch.testing.assert_close(out.pred_depth.data, expected)
    torch.testing.assert_close(out.pred_normals.data.norm(dim=0), torch.ones(64, 96))


def test_shapes_that_fit_nothing_are_named():
    model = build().eval()
    odd = sample(['edge'], size=(9, 9), img_shape=SIZE, ori_shape=(64, 96), img_path='a.png')
    with pytest.raises(ValueError, match=r"gt_edge of sample 'a.png' \(task 'edge'\) has size \(9, 9\), .*\(64, 96\)"):
        model(*batch(odd), mode='predict')
    with pytest.raises(
        ValueError, match=r'img_shape \(30, 48\) at pad_offset \(5, 0\) does not fit into .* \(32, 48\)'
    ):
        model(*batch(sample([], img_shape=(30, 48), pad_offset=(5, 0))), mode='predict')


def test_other_input_sizes():
    model = build().eval()
    out = model(torch.randn(1, 3, 64, 40), [sample([])], mode='predict')
    assert out[0].pred_depth.data.shape == (1, 64, 40)


def test_targets_with_the_channels_of_another_data_set():
    model = build(dict(reshading=dict(channels=3)))
    one = sample([])
    one.set_data(dict(gt_reshading=PixelData(data=torch.rand(3, *SIZE))))
    inputs, samples = batch(one, sample([]))  # the second sample lacks the task
    losses = model(inputs, samples, mode='loss')
    assert losses['reshading.num_valid'] == SIZE[0] * SIZE[1]
    assert model.eval()(inputs, samples, mode='predict')[0].pred_reshading.data.shape == (3, *SIZE)
    with pytest.raises(ValueError, match=r'must have shape \(1, H, W\), but got \(3, 32, 48\).*reshading.channels=3'):
        build(dict(reshading={}))(inputs, samples, mode='loss')
