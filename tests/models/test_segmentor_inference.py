"""Sliding windows, mirrored images, chosen tasks."""

import dataclasses

import pytest
import torch
from mmseg.structures import SegDataSample

from mtl_plugins.models import InferenceSettings
from mtl_plugins.models.heads import decode_logits, decode_views
from mtl_plugins.models.segmentors.inference import mirror_back, mirrored, slide, window_starts
from mtl_plugins.models.segmentors.regions import Region
from mtl_plugins.task_specs import get_task_spec

from .segmentor_cases import HEADS, SIZE, build

TASKS = tuple(HEADS)


def predict(model, inputs, **settings):
    model.eval()
    model.inference = InferenceSettings(**settings)
    samples = [SegDataSample() for _ in inputs]
    with torch.no_grad():
        return model(inputs, samples, mode='predict')


def images(count=2, size=SIZE, seed=0):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('crop', [SIZE, (64, 64)])
def test_a_window_over_the_whole_image_changes_nothing(crop):
    model, inputs = build(test_cfg=dict(mode='slide', crop_size=crop)), images()
    model.eval()
    with torch.no_grad():
        slid = model(inputs, mode='predict')
    assert model.inference.mode == 'slide'
    for a, b in zip(predict(model, inputs), slid):
        for task in TASKS:
            assert torch.equal(a.get(f'pred_{task}').data, b.get(f'pred_{task}').data), task


def test_windows_cover_everything_and_end_with_the_image():
    for length in range(1, 40):
        for window in range(1, 12):
            for stride in range(1, window + 1):
                starts = window_starts(length, min(window, length), stride)
                assert starts == sorted(set(starts))
                covered = {x for start in starts for x in range(start, start + min(window, length))}
                assert covered == set(range(length))


def test_slide_averages_the_raw_outputs_of_overlapping_windows():
    model, inputs = build(), images(size=(48, 64))
    model.eval()
    with torch.no_grad():
        got = slide(model._raw_outputs, inputs, (32, 48), (16, 16))
        sums = {task: torch.zeros_like(got[task]) for task in TASKS}
        count = torch.zeros(48, 64)
        for top in (0, 16):
            for left in (0, 16):
                place = (..., slice(top, top + 32), slice(left, left + 48))
                for task, raw in model(inputs[place], mode='tensor').items():
                    sums[task][place] += raw
                count[place[1:]] += 1
    assert count.max() == 4
    for task in TASKS:
        torch.testing.assert_close(got[task], sums[task] / count)
    sample = predict(model, inputs, mode='slide', crop_size=(32, 48), stride=(16, 16))[0]
    for task in TASKS:
        decoded = decode_logits(get_task_spec(task), got[task])[0]
        torch.testing.assert_close(sample.get(f'pred_{task}').data, decoded)


def test_mirroring_moves_the_content_and_leaves_the_padding():
    inputs = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    out = mirrored(inputs, [Region(1, 2, 2, 3), Region(0, 0, 4, 6)])
    assert torch.equal(out[0, :, 1:3, 2:5], inputs[0, :, 1:3, 2:5].flip(-1))
    assert torch.equal(out[0, :, :, :2], inputs[0, :, :, :2])
    assert torch.equal(out[1], inputs[1].flip(-1))


def test_normals_point_the_other_way_after_mirroring():
    raw = torch.tensor([0.6, 0.2, 0.77]).view(1, 3, 1, 1).expand(1, 3, 2, 4)
    back = mirror_back(get_task_spec('normals'), raw)
    assert torch.equal(back[0, :, 0, 0], torch.tensor([-0.6, 0.2, 0.77]))
    curvature = torch.randn(1, 2, 2, 4)
    assert torch.equal(mirror_back(get_task_spec('principal_curvature'), curvature), curvature.flip(-1))


@pytest.mark.parametrize('extra', [{}, dict(mode='slide', crop_size=(32, 32), stride=(16, 8))])
def test_with_flip_tta_a_mirrored_image_gives_the_mirrored_prediction(extra):
    model, inputs = build(), images(1)
    (plain,) = predict(model, inputs, flip_tta=True, **extra)
    (turned,) = predict(model, inputs.flip(-1), flip_tta=True, **extra)
    (without,) = predict(model, inputs, **extra)
    for task in TASKS:
        spec = get_task_spec(task)
        a, b = plain.get(f'pred_{task}').data, turned.get(f'pred_{task}').data
        if spec.kind == 'classes':
            assert torch.equal(a, b.flip(-1))
            continue
        torch.testing.assert_close(a, mirror_back(spec, b[None])[0], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(a, without.get(f'pred_{task}').data, atol=1e-3), 'the mirrored image has a say'


def test_views_are_averaged_by_what_they_mean():
    logits = torch.tensor([[2.0, 0.0, 0.0]]).view(1, 3, 1, 1), torch.tensor([[-9.0, 0.1, 0.0]]).view(1, 3, 1, 1)
    # Probabilities: class 0 has 0.79 + 0, class 1 only 0.11 + 0.52. Raw outputs would say class 1.
    assert decode_views(get_task_spec('semseg'), logits).item() == 0
    assert decode_logits(get_task_spec('semseg'), sum(logits)).item() == 1
    edge = decode_views(get_task_spec('edge'), [torch.full((1, 1, 1, 1), value) for value in (0.0, 20.0)])
    assert edge.item() == pytest.approx(0.75)
    vectors = torch.tensor([9.0, 0.0, 0.0]).view(1, 3, 1, 1), torch.tensor([0.0, 0.1, 0.0]).view(1, 3, 1, 1)
    mean = decode_views(get_task_spec('normals'), vectors).flatten()
    torch.testing.assert_close(mean, torch.tensor([0.5**0.5, 0.5**0.5, 0.0]))
    opposite = decode_views(get_task_spec('normals'), [vectors[0], -vectors[0]]).flatten()
    assert torch.equal(opposite, torch.tensor([0.0, 0.0, 1.0]))


def test_only_the_chosen_tasks_are_predicted():
    model, inputs = build(), images()
    whole = predict(model, inputs)
    some = predict(model, inputs, tasks=('depth',))
    for a, b in zip(whole, some):
        assert list(b.keys()) == ['pred_depth']
        assert torch.equal(a.pred_depth.data, b.pred_depth.data)
    assert set(model(inputs, mode='tensor')) == set(TASKS)
    with pytest.raises(KeyError, match=r'test_cfg.tasks: the model has no head for sal; it has semseg, depth'):
        build(test_cfg=dict(tasks=['sal']))


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match=r"mode must be 'whole' or 'slide', but got 'slid'"):
        build(test_cfg=dict(mode='slid'))
    with pytest.raises(ValueError, match=r'needs test_cfg.crop_size=\(height, width\)'):
        build(test_cfg=dict(mode='slide'))
    with pytest.raises(ValueError, match=r'stride=\(8, 49\), crop_size=\(32, 48\)'):
        InferenceSettings(mode='slide', crop_size=(32, 48), stride=(8, 49))
    with pytest.raises(ValueError, match=r'crop_size must be two whole numbers'):
        InferenceSettings(mode='slide', crop_size=(32, 48, 3))
    with pytest.raises(ValueError, match=r'test_cfg knows mode, .* but got crop'):
        build(test_cfg=dict(crop=3))
    assert InferenceSettings(mode='slide', crop_size=96).stride == (64, 64)
    assert dataclasses.replace(InferenceSettings(), flip_tta=True).flip_tta
